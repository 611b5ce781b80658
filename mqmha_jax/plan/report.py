"""Writes a plan as text and as plain data."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax

from mqmha_jax.plan.chips import GIB
from mqmha_jax.plan.memory import Memory
from mqmha_jax.plan.plan import Plan
from mqmha_jax.plan.step_time import StepTime
from mqmha_jax.text_table import align_table

FORMULA = """\
least time = max(compute, memory, overlapped) + exposed: compute = matrix FLOPs / bfloat16 peak; memory = main-memory
traffic / its bandwidth; a collective = max(bytes sent / links used, hops x 1 us). Collectives that the compiler starts
and awaits separately count as overlapped, all others as exposed. No run is faster; kernels that do not reach the peak
make it slower. estimate = the same with the compiler's own cycle count for the arithmetic: a forecast, not a
measurement. Input pipeline, checkpoints and evaluation are in neither."""


_NOT_UNDERSTOOD = """\
Times are missing: jax {jax} writes the compiled program in a way that this version of mqmha_jax does not understand:
  {what}
Memory is known. XLA's cost analysis counts {flops:,.1f} GFLOP, the body of a loop once. Install the versions of jax and
libtpu that docs/plan.md names to get the times."""


def format_plan(plan: Plan) -> str:
    """Writes the text of ``mqmha plan``.

    Args:
      plan: from ``make_plan``.

    Returns:
      Memory by class, work, collectives, time, speed, and what to change where the program does not fit.
    """
    return "\n\n".join(part for part in (_head(plan), _memory(plan), *_describe_running(plan), _verdict(plan)) if part)


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Returns the plan as data for JSON: every field, and the times that follow from them.

    Args:
      plan: from ``make_plan``.
    """
    data = dataclasses.asdict(plan)
    data["step"].pop("collectives")  # one entry per instruction; ``traffic`` has their sums
    data["fits"] = plan.fits
    if plan.time:
        data["time"] |= {name: getattr(plan.time, name) for name in ("busy", "bound", "estimate", "efficiency")}
    return data


def _head(plan: Plan) -> str:
    mesh = " x ".join(f"{name}={size}" for name, size in plan.mesh.items())
    share = plan.batch_size / plan.topology.num_chips
    return (
        f"{plan.topology}; mesh {mesh}; {plan.num_speakers:,} speakers; "
        f"batch {plan.batch_size} x {plan.crop_frames} frames ({share:g} per chip)"
    )


def _memory(plan: Plan) -> str:
    memory = plan.memory
    rows = [
        ("network: parameters, statistics", memory.network),
        ("head: prototypes", memory.head),
        ("optimizer state", memory.optimizer),
        ("batch", memory.batch),
        ("other state", memory.other),
        ("padding of the above", memory.padding),
        ("activations and temporaries", memory.temporaries),
        ("outputs", memory.outputs),
        ("program", memory.code),
        ("together", memory.needed),
    ]
    cells = [(name, _mib(value), _share(value, memory)) for name, value in rows if value is not None]
    limit = "the chip has" if plan.fits else "the compiler may use"
    header = ("memory of a chip", "MiB", f"of {memory.capacity / GIB:.2f} GiB")
    return align_table([header, *cells], numbers=True) + (
        "" if plan.fits else f"\nneeds {memory.needed / GIB:.2f} GiB, {limit} {memory.capacity / GIB:.2f} GiB"
    )


def _describe_running(plan: Plan) -> Iterable[str]:
    time = plan.time
    if plan.step.not_understood:
        yield _NOT_UNDERSTOOD.format(
            jax=jax.__version__, what=plan.step.not_understood, flops=plan.step.xla_flops / 1e9
        )
    if time is None:
        return
    yield _work(plan, time)
    yield _collectives(plan)
    yield _speed(plan, time)
    yield FORMULA


def _work(plan: Plan, time: StepTime) -> str:
    step = plan.step
    rows = [
        ("a step on a chip", "amount", "least ms"),
        ("matrix FLOPs", f"{step.matrix_flops / 1e9:,.1f} GFLOP", _ms(time.compute)),
        ("main-memory traffic", f"{step.hbm_bytes / 1e9:,.2f} GB", _ms(time.memory)),
        ("collectives, exposed", _sent(plan, overlaps=False), _ms(time.exposed)),
        ("collectives, overlapped", _sent(plan, overlaps=True), _ms(time.overlapped)),
        ("compiler's cycle estimate", f"{step.cycles:,} cycles", _ms(time.cycles)),
    ]
    notes = f"\nXLA's cost analysis counts {step.xla_flops / 1e9:,.1f} GFLOP, the body of a loop once."
    if step.unknown_loops:
        notes += f"\nThe length of {step.unknown_loops} loops is unknown; each counts as one pass."
    return align_table(rows, numbers=True) + notes


def _collectives(plan: Plan) -> str:
    rows = [("collectives", "chips", "count", "operands MB", "sent MB", "least ms", "")]
    for item in plan.traffic:
        overlap = "overlapped" if item.overlaps else "exposed"
        size, sent = f"{item.operand_bytes / 1e6:,.3f}", f"{item.sent_bytes / 1e6:,.3f}"
        rows.append((item.kind, str(item.group_size), str(item.count), size, sent, _ms(item.seconds), overlap))
    return align_table(rows, numbers=True) if plan.traffic else "no collectives"


def _speed(plan: Plan, time: StepTime) -> str:
    rows: list[tuple[str, ...]] = [("", "at best", "estimate")]
    seconds = (time.bound, time.estimate)
    per_second = [plan.batch_size / s for s in seconds]
    hosts = plan.topology.num_chips / plan.topology.chips_per_host
    rows += [
        ("step, ms", *map(_ms, seconds)),
        ("utterances/s, one chip", *(f"{rate / plan.topology.num_chips:,.0f}" for rate in per_second)),
        ("utterances/s, slice", *(f"{rate:,.0f}" for rate in per_second)),
        (f"hours for {plan.steps:,} steps{_epochs(plan)}", *(f"{plan.steps * s / 3600:.2f}" for s in seconds)),
        ("data for each host, MB/s", *(f"{plan.batch_bytes / s / hosts / 1e6:,.0f}" for s in seconds)),
        ("scaling efficiency: own work / step", f"{time.busy / time.bound:.1%}", f"{time.efficiency:.1%}"),
    ]
    if plan.one_chip:
        rows.append(
            (
                "speed / (chips x one chip)",
                f"{plan.one_chip.bound / time.bound:.1%}",
                f"{plan.one_chip.estimate / time.estimate:.1%}",
            )
        )
    return align_table(rows, numbers=True)


def _verdict(plan: Plan) -> str:
    if plan.fits:
        free = 1 - plan.memory.needed / plan.memory.capacity
        return f"Fits: {free:.0%} of the memory stays free."
    ways = "\n".join(f"  - {way}" for way in plan.remedies)
    return f"Does not fit. Largest first:\n{ways}"


def _epochs(plan: Plan) -> str:
    return f" ({plan.steps * plan.batch_size / plan.utterances:.1f} epochs)" if plan.utterances else ""


def _sent(plan: Plan, *, overlaps: bool) -> str:
    return f"{sum(item.sent_bytes for item in plan.traffic if item.overlaps == overlaps) / 1e6:,.2f} MB sent"


def _share(value: int, memory: Memory) -> str:
    return f"{value / memory.capacity:.1%}"


def _mib(value: int) -> str:
    return f"{value / 2**20:,.1f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}"
