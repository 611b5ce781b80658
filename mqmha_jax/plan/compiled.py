"""Asks the compiler what a step costs, and keeps its answers on disk, because each takes a minute or two."""

import dataclasses
import hashlib
import importlib.metadata
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from mqmha_jax import __version__
from mqmha_jax.atomic import write_json
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_json
from mqmha_jax.plan.collectives import Collective
from mqmha_jax.plan.time_limit import run_within
from mqmha_jax.plan.work import count_work

# Two passes of the TPU compiler find that memory is short: one knows only the temporaries, a later one the sum.
_AMOUNT = r"([\d.]+)([KMGT]?)"
_TOO_MANY_TEMPORARIES = re.compile(rf"for HLO temporaries \({_AMOUNT}\) exceeds available HBM \({_AMOUNT}\)")
_TOO_MUCH = re.compile(rf"Used {_AMOUNT} of {_AMOUNT} hbm")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_VERSION = 3  # of what is kept and how it is counted; answers of another version are not used


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """One chip's share of a step, as compiled. A program that does not fit leaves most numbers 0.

    The memory comes from ``memory_analysis()`` and ``xla_flops`` from ``cost_analysis()``. The numbers after it are
    counted in the text of the program, because JAX offers them nowhere else.

    Attributes:
      fits: the compiler found room for everything.
      needed_bytes: memory at the peak, by the compiler's own account; 0 where it gave up before the sum.
      limit_bytes: the compiler's limit, where the program does not fit; else 0.
      argument_bytes: state and batch, with the padding of their layout.
      output_bytes: results that do not take the place of an argument.
      temporary_bytes: everything between: activations and scratch.
      code_bytes: the program itself.
      xla_flops: all arithmetic, but the body of a loop once.
      matrix_flops: FLOPs of products and convolutions, every pass of a loop.
      hbm_bytes: traffic of main memory.
      cycles: the compiler's estimate for the arithmetic, in cycles of the TensorCore.
      unknown_loops: loops of unknown length, which count as one pass.
      collectives: all collectives of the step.
      not_understood: the first part of the text that cannot be read; then the numbers from the text are missing.
    """

    fits: bool
    needed_bytes: int
    limit_bytes: int = 0
    argument_bytes: int = 0
    output_bytes: int = 0
    temporary_bytes: int = 0
    code_bytes: int = 0
    xla_flops: float = 0.0
    matrix_flops: float = 0.0
    hbm_bytes: int = 0
    cycles: int = 0
    unknown_loops: int = 0
    collectives: tuple[Collective, ...] = ()
    not_understood: str = ""


def compile_step(
    lowered: jax.stages.Lowered,
    *,
    target: str,
    num_devices: int,
    cache: Path | None = None,
    time_limit: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> CompiledStep:
    """Compiles a step, or finds the answer of an earlier compilation of the same program.

    Args:
      lowered: the step, for real devices or those of a topology.
      target: name of these devices, which the program's text does not tell.
      num_devices: number of these devices.
      cache: directory of earlier answers; None: always compile.
      time_limit: seconds after which to give up; None: never.
      progress: receives a line before a compilation and while it runs.

    Raises:
      UserError: the compiler needs more than the time limit.
    """
    kept = cache / f"{_key(lowered, target)}.json" if cache else None
    step = _recall(kept) if kept else None
    if step is None:
        limit = "" if time_limit is None else f", at most {time_limit / 60:g} (--time-limit)"
        progress(f"Compiling the training step for {target}; this usually takes 1 to 4 minutes{limit} ...")
        step = _compile(lowered, num_devices, time_limit, progress)
        if kept and not step.not_understood:  # another version of this package may understand it
            _remember(kept, step)
    return step


def default_cache() -> Path:
    """Returns where the command keeps the compiler's answers: ``$XDG_CACHE_HOME/mqmha_jax/plan``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mqmha_jax" / "plan"


def _compile(
    lowered: jax.stages.Lowered, num_devices: int, time_limit: float | None, progress: Callable[[str], None]
) -> CompiledStep:
    try:
        with _no_persistent_cache():
            compiled = run_within(lowered.compile, limit_seconds=time_limit, progress=progress)
    except jax.errors.JaxRuntimeError as error:
        return _read_refusal(error)
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None  # every XLA backend gives both
    assert text is not None
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    parts = (memory.argument_size_in_bytes, outputs, memory.temp_size_in_bytes, memory.generated_code_size_in_bytes)
    return CompiledStep(
        fits=True,
        needed_bytes=sum(parts),
        argument_bytes=parts[0],
        output_bytes=parts[1],
        temporary_bytes=parts[2],
        code_bytes=parts[3],
        xla_flops=float((compiled.cost_analysis() or {}).get("flops", 0.0)),
        **count_work(text, num_devices),
    )


def _recall(path: Path) -> CompiledStep | None:
    try:
        answer = read_json(path, dict, advice="")
        collectives = tuple(Collective(**{**item, "members": tuple(item["members"])}) for item in answer["collectives"])
        return CompiledStep(**{**answer, "collectives": collectives})
    except (UserError, KeyError, TypeError):  # missing or damaged: the compiler is asked again
        return None


def _remember(path: Path, step: CompiledStep) -> None:
    try:
        write_json(path, dataclasses.asdict(step))
    except UserError as error:  # the answer is here; only the next plan takes as long again
        logging.getLogger(__name__).warning("The compiler's answer cannot be cached for the next plan: %s", error)


def _read_refusal(error: jax.errors.JaxRuntimeError) -> CompiledStep:
    temporaries, together = (pattern.search(str(error)) for pattern in (_TOO_MANY_TEMPORARIES, _TOO_MUCH))
    said = temporaries or together
    if said is None:  # another failure than a lack of memory
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
    # JAX writes a program for absent devices into its cache, cannot read it again, and warns each time.
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
