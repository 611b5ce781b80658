"""Writes a trained network as StableHLO, which JAX alone loads and runs."""

from pathlib import Path

import jax
from jax import export as jax_export

from mqmha_jax.atomic import write_bytes
from mqmha_jax.interop.embedding_program import EmbeddingProgram

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(path: Path, program: EmbeddingProgram) -> None:
    """Writes what ``jax.export.deserialize`` reads, for all platforms at once.

    Args:
      path: of the file.
      program: the network.

    Raises:
      UserError: the file cannot be written.
    """
    exported = jax_export.export(jax.jit(program.function), platforms=PLATFORMS)(*program.arguments)
    write_bytes(path, bytes(exported.serialize()))
