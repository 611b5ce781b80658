"""Counts the work of a compiled step in its text: FLOPs, traffic of main memory, cycles and collectives."""

from typing import Any

from mqmha_jax.plan.collectives import find_collectives
from mqmha_jax.plan.hbm_traffic import count_hbm_bytes
from mqmha_jax.plan.hlo import HloNotUnderstoodError, parse_hlo
from mqmha_jax.plan.matrix_flops import count_matrix_flops


def count_work(text: str, num_devices: int) -> dict[str, Any]:
    """Counts what the text of a compiled program tells.

    Args:
      text: from ``compiled.as_text()``.
      num_devices: number of devices of the program.

    Returns:
      Fields of ``CompiledStep``. Only ``not_understood`` if a part of the text cannot be read, because a number that
      misses a part is worse than none.
    """
    try:
        program = parse_hlo(text)
        return {
            "matrix_flops": count_matrix_flops(program),
            "hbm_bytes": count_hbm_bytes(program),
            "cycles": sum(program.runs[name] * instruction.cycles for name, instruction in program.instructions()),
            "unknown_loops": program.unknown_loops,
            "collectives": tuple(find_collectives(program, num_devices)),
        }
    except HloNotUnderstoodError as error:
        return {"not_understood": str(error)}
    except (LookupError, ValueError, StopIteration) as error:
        # An operand, an axis, a number or a root is not where XLA writes it today.
        return {"not_understood": f"{type(error).__name__}: {error}"}
