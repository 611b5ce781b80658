"""Memory of a compiled program by its compiler."""

from typing import Any

import jax


def memory_of(program: jax.stages.Compiled) -> Any:
    """Returns the compiler's ``CompiledMemoryStats``.

    Raises:
      RuntimeError: the compiler of this device gives none.
    """
    memory = program.memory_analysis()
    if memory is None:
        raise RuntimeError(f"The compiler for {jax.default_backend()} does not say how much memory a program takes.")
    return memory
