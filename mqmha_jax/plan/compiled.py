"""What the compiler says about a step; answers are kept on disk, for each takes a minute or two."""

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from mqmha_jax import __version__
from mqmha_jax.plan.collectives import Collective, find_collectives
from mqmha_jax.plan.hbm_traffic import count_hbm_bytes
from mqmha_jax.plan.hlo import parse_hlo
from mqmha_jax.plan.matrix_flops import count_matrix_flops

# Two passes of the TPU compiler find out: one knows the temporaries only, a later one the sum.
_AMOUNT = r"([\d.]+)([KMGT]?)"
_TOO_MANY_TEMPORARIES = re.compile(rf"for HLO temporaries \({_AMOUNT}\) exceeds available HBM \({_AMOUNT}\)")
_TOO_MUCH = re.compile(rf"Used {_AMOUNT} of {_AMOUNT} hbm")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_VERSION = 2  # of the counting: an answer counted otherwise is not used


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """One chip's share of a step, as compiled; of a program that does not fit, little is known, and the rest is 0.

    Attributes:
      fits: the compiler found room for everything.
      needed_bytes: memory at the peak, by the compiler's own account; 0 where it gave up before the sum.
      limit_bytes: of the compiler, where the program does not fit; else 0.
      argument_bytes: state and batch, with the padding of their layout.
      output_bytes: results that do not take the place of an argument.
      temporary_bytes: everything between: activations and scratch.
      code_bytes: the program itself.
      matrix_flops: of products and convolutions.
      xla_flops: ``cost_analysis()``: other arithmetic too, but the body of a loop once.
      hbm_bytes: traffic of main memory.
      cycles: the compiler's estimate for the arithmetic, in cycles of the TensorCore.
      unknown_loops: loops of unknown length, counted as one pass.
      collectives: of the step.
    """

    fits: bool
    needed_bytes: int
    limit_bytes: int = 0
    argument_bytes: int = 0
    output_bytes: int = 0
    temporary_bytes: int = 0
    code_bytes: int = 0
    matrix_flops: float = 0.0
    xla_flops: float = 0.0
    hbm_bytes: int = 0
    cycles: int = 0
    unknown_loops: int = 0
    collectives: tuple[Collective, ...] = ()


def compile_step(
    lowered: jax.stages.Lowered,
    *,
    target: str,
    num_devices: int,
    cache: Path | None = None,
    before: Callable[[], None] = lambda: None,
) -> CompiledStep:
    """Compiles, or finds what an earlier compilation of the same program said.

    Args:
      lowered: the step, for real devices or those of a topology.
      target: names these devices; the program's text does not.
      num_devices: how many they are.
      cache: directory of earlier answers; None: always compile.
      before: is called when it does compile.
    """
    kept = cache / f"{_key(lowered, target)}.json" if cache else None
    step = _remembered(kept) if kept else None
    if step is None:
        before()
        step = _compile(lowered, num_devices)
        if kept:
            _remember(kept, step)
    return step


def default_cache() -> Path:
    """Where the command keeps the compiler's answers: ``$XDG_CACHE_HOME/mqmha_jax/plan``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mqmha_jax" / "plan"


def _compile(lowered: jax.stages.Lowered, num_devices: int) -> CompiledStep:
    try:
        with _no_persistent_cache():
            compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        return _too_large(error)
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None  # every XLA backend gives both
    assert text is not None
    program = parse_hlo(text)
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    parts = (memory.argument_size_in_bytes, outputs, memory.temp_size_in_bytes, memory.generated_code_size_in_bytes)
    return CompiledStep(
        fits=True,
        needed_bytes=sum(parts),
        argument_bytes=parts[0],
        output_bytes=parts[1],
        temporary_bytes=parts[2],
        code_bytes=parts[3],
        matrix_flops=count_matrix_flops(program),
        xla_flops=float((compiled.cost_analysis() or {}).get("flops", 0.0)),
        hbm_bytes=count_hbm_bytes(program),
        cycles=sum(program.runs[name] * instruction.cycles for name, instruction in program.instructions()),
        unknown_loops=program.unknown_loops,
        collectives=tuple(find_collectives(program, num_devices)),
    )


def _remembered(path: Path) -> CompiledStep | None:
    try:
        answer = json.loads(path.read_text())
    except (OSError, ValueError):  # none, or not readable: the compiler is asked again
        return None
    collectives = tuple(Collective(**{**item, "members": tuple(item["members"])}) for item in answer["collectives"])
    return CompiledStep(**{**answer, "collectives": collectives})


def _remember(path: Path, step: CompiledStep) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two plans at once must not read half a file of each other.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump(dataclasses.asdict(step), file)
        os.replace(file.name, path)
    except OSError as error:  # the answer is at hand, only the next time takes as long again
        logging.getLogger(__name__).warning("The plan is not kept for the next time: %s", error)


def _too_large(error: jax.errors.JaxRuntimeError) -> CompiledStep:
    temporaries, together = (pattern.search(str(error)) for pattern in (_TOO_MANY_TEMPORARIES, _TOO_MUCH))
    said = temporaries or together
    if said is None:  # it failed for another reason
        raise error
    used, limit = (int(float(said[i]) * _UNITS[said[i + 1]]) for i in (1, 3))
    return CompiledStep(
        fits=False,
        needed_bytes=used if together else 0,
        temporary_bytes=used if temporaries else 0,
        limit_bytes=limit,
    )


@contextmanager
def _no_persistent_cache() -> Iterator[None]:
    # JAX writes a program for absent devices into its cache but cannot read it again, and warns each time.
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def _key(lowered: jax.stages.Lowered, target: str) -> str:
    try:
        libtpu = importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        libtpu = os.environ.get("TPU_LIBRARY_PATH", "")
    about = (_VERSION, __version__, jax.__version__, libtpu, target, lowered.as_text())
    return hashlib.sha256("\0".join(map(str, about)).encode()).hexdigest()
