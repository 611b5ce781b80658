"""Writes the report of a study: tables, findings and pictures of the finished runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mqmha_jax.atomic import write_json, write_text
from mqmha_jax.evaluation.metrics.bootstrap import MIN_SPEAKERS
from mqmha_jax.study import blocks
from mqmha_jax.study.comparisons import (
    describe_comparison,
    format_p_value,
)
from mqmha_jax.study.cost import Cost
from mqmha_jax.study.effects import EER, MEAN, METRICS, Measured, estimate_effects
from mqmha_jax.study.findings import Findings, collect_numbers, derive_findings
from mqmha_jax.study.pictures import draw_differences, draw_factor, draw_training
from mqmha_jax.study.plan import Plan
from mqmha_jax.study.results import read_training_curves, read_training_minutes
from mqmha_jax.study.runs import Run
from mqmha_jax.study.sizes import ALIKE


def write_report(
    directory: Path,
    plan: Plan,
    finished: Sequence[Run],
    missing: Mapping[str, str],
    costs: Mapping[str, Cost],
    *,
    title: str,
    replicates: int,
) -> Findings | None:
    """Writes ``report.md``, ``report.html``, ``report.json`` and the pictures.

    Args:
      directory: made if missing.
      plan: plan of the study.
      finished: finished runs.
      missing: unfinished run -> reason.
      costs: cost of each cell.
      title: title of the report.
      replicates: number of resamples of speakers and seeds.

    Returns:
      The findings; None until a run of the reference is finished, because all comparisons need it.

    Raises:
      UserError: a file cannot be read or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not any(run.cell.name == plan.study.reference for run in finished):
        return None
    found = derive_findings(plan, finished, replicates=replicates)
    pictures = _pictures(directory, plan, finished, found)
    told = [*_summary(plan, finished, missing, found), *_tables(plan, costs, finished, found), *pictures]
    told += _method(plan, found, replicates)
    write_text(directory / "report.md", blocks.markdown(title, told))
    write_text(directory / "report.html", blocks.html(title, told))
    write_json(directory / "report.json", collect_numbers(plan, finished, missing, costs, found, title, replicates))
    return found


def _summary(plan: Plan, finished: Sequence[Run], missing: Mapping[str, str], found: Findings) -> list[blocks.Block]:
    study = plan.study
    told: list[blocks.Block] = [
        blocks.Text(study.question),
        blocks.Text(
            f"{len(finished)} of {plan.num_runs} runs: {len(plan.cells)} cells, seeds "
            f"{', '.join(map(str, study.seeds))}. Reference: **{study.reference}**. Deciding metric: EER, "
            f"{found.deciding.name}."
        ),
    ]
    if missing:
        told.append(blocks.Text("These runs are not finished; the tables leave them out:"))
        told.append(blocks.Points([f"{name}: {why}" for name, why in missing.items()]))
    readings = [describe_comparison(one) for levels in found.factors.values() for one in levels]
    told += [blocks.Heading("What is and is not shown"), blocks.Points(readings or ["Nothing to compare yet."])]
    if found.controls:
        told.append(blocks.Text("Compared with networks like the reference that have as many parameters:"))
        told.append(blocks.Points([describe_comparison(one) for one in found.controls]))
    widths = [one.eer.smallest_shown for one in found.cells]
    if widths:
        told.append(
            blocks.Text(
                "The smallest difference in EER that these lists and seeds could show between two cells is about "
                f"{100 * min(widths):.2f} to {100 * max(widths):.2f} points (half the width of the 95 % intervals)."
            )
        )
    return told + [blocks.Text(f"**Note**: {note}") for note in _doubts(plan, found)]


def _doubts(plan: Plan, found: Findings) -> list[str]:
    doubts = list(plan.notes)
    if len(plan.study.seeds) == 1:
        doubts.append("One seed: the intervals say nothing about the results of other seeds.")
    small = [
        f"{part.name} ({part.fewest_speakers}{' in one' if part.fewest_speakers < part.num_speakers else ''})"
        for part in found.measured
        if not part.reliable
    ]
    if small:
        doubts.append(f"Below {MIN_SPEAKERS} speakers an interval is unreliable: {', '.join(small)}.")
    size = {cell.name: cell.parameters for cell in plan.cells}
    controlled = {cell.control_of for cell in plan.cells}
    for name, parameters in size.items():
        more = parameters / size[plan.study.reference] - 1
        if abs(more) > ALIKE and name not in controlled and not name.startswith(f"{plan.study.reference}-as-large"):
            doubts.append(
                f"{name} has {abs(more):.0%} {'more' if more > 0 else 'fewer'} network parameters than the reference "
                "and no control of its size: size alone may cause a difference."
            )
    return doubts


def _tables(plan: Plan, costs: Mapping[str, Cost], finished: Sequence[Run], found: Findings) -> list[blocks.Block]:
    told: list[blocks.Block] = [blocks.Heading("Error rates")]
    for part in (found.deciding, *found.measured[:-1]):
        speakers = f"{part.num_speakers} speakers" + ("" if part.reliable else ", intervals unreliable")
        rows = [_error_row(part, cell, plan.study.reference, found) for cell in part.estimates]
        header = ["cell", "EER %", "sd over seeds", "minus reference", "minDCF 0.01", "minus reference"]
        if part is found.deciding:
            header += ["p (Holm)", "reading"]
        told.append(blocks.Table(f"{part.name} ({speakers})", header, rows))
    rows = [_cost_row(cell.name, cell.parameters, costs.get(cell.name), finished) for cell in plan.cells]
    header = ["cell", "network parameters", "head parameters", "GFLOP per step", "step s", "utterances/s", "memory MB"]
    machines = ", ".join(dict.fromkeys(cost.devices for cost in costs.values()))
    told += [
        blocks.Heading("Cost"),
        blocks.Table(f"One training step on {machines}", [*header, "minutes per run"], rows),
    ]
    return told


def _error_row(part: Measured, cell: str, reference: str, found: Findings) -> list[str]:
    row = [cell]
    differences = estimate_effects(part, [cell], [reference])
    for j, (factor, digits) in enumerate(((100, 2), (1, 3))):
        seeds = factor * part.estimates[cell][:, j]
        row.append(f"{seeds.mean():.{digits}f}")
        if j == EER:
            row.append(f"{seeds.std(ddof=1):.2f}" if len(seeds) > 1 else "")
        if cell == reference:
            row.append("")
            continue
        own = differences[METRICS[j]]
        low, high = (factor * end for end in own.interval)
        row.append(f"{factor * own.difference:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]")
    if part is found.deciding:
        comparison = next((one for one in found.cells if one.plus == (cell,)), None)
        row += (
            [format_p_value(comparison.adjusted).removeprefix("= "), comparison.verdict]
            if comparison
            else ["", "reference"]
        )
    return row


def _cost_row(name: str, parameters: int, cost: Cost | None, finished: Sequence[Run]) -> list[str]:
    minutes = [read_training_minutes(run) for run in finished if run.cell.name == name]
    last = f"{np.median(minutes):.1f}" if minutes else ""
    if cost is None:
        return [name, f"{parameters:,}", "", "", "", "", "", last]
    return [
        name,
        f"{parameters:,}",
        f"{cost.head_parameters:,}",
        "" if cost.gigaflops is None else f"{cost.gigaflops:.1f}",
        f"{cost.step_seconds:.3f}",
        f"{cost.utterances_per_second:.0f}",
        "" if cost.memory_mb is None else f"{cost.memory_mb:.0f}",
        last,
    ]


def _pictures(directory: Path, plan: Plan, finished: Sequence[Run], found: Findings) -> list[blocks.Block]:
    decides = found.deciding
    told: list[blocks.Block] = [blocks.Heading("Pictures")]
    grid = [cell.name for cell in plan.cells if not cell.control_of and cell.name in decides.estimates]
    for factor in plan.study.factors:
        path = directory / f"eer_{factor.name}.png"
        draw_factor(path, plan.study, factor, decides, grid)
        about = "Points are seeds, markers their means, bars 95 % intervals over speakers and seeds"
        told.append(
            blocks.Picture(path, f"EER by {factor.name}. {about}; bars may overlap even if a paired difference holds")
        )
    if found.cells:
        path = directory / "differences.png"
        draw_differences(path, found.cells, plan.study.reference)
        told.append(blocks.Picture(path, "Paired differences from the reference; filled points hold after Holm"))
    path = directory / "training.png"
    draw_training(path, read_training_curves(finished))
    return [
        *told,
        blocks.Picture(
            path,
            "Training: means over seeds. The top negative cosine averages over the cell's top_k nearest speakers, or "
            "takes the nearest if top_k is 0",
        ),
    ]


def _method(plan: Plan, found: Findings, replicates: int) -> list[blocks.Block]:
    mean = " Lists have different speakers and are resampled independently." if found.deciding.name == MEAN else ""
    return [
        blocks.Heading("How it was measured"),
        blocks.Text(
            f"Intervals (95 %) come from {replicates:,} resamples of the speakers, the same for all cells; the seeds "
            f"of each cell are resampled too.{mean} Readings use Holm's adjustment over the comparisons made "
            "together. Scores are cosines after subtracting the mean training embedding. Steps were timed before the "
            "runs, one cell after the other, with data at hand; memory is the compiler's count for one device."
        ),
    ]
