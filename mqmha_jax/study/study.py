"""Runs ``mqmha study`` from beginning to end: plan, cost, budget, runs, report."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from mqmha_jax.atomic import check_writable_directory
from mqmha_jax.errors import UserError
from mqmha_jax.study.comparisons import describe_comparison
from mqmha_jax.study.cost import Cost, check_minutes, measure_or_read_cost
from mqmha_jax.study.findings import Findings
from mqmha_jax.study.plan import Plan
from mqmha_jax.study.report import write_report
from mqmha_jax.study.runs import Ended, Say, do_runs, is_finished, list_runs, refuse_changed
from mqmha_jax.study.starts import refuse_changed_starts


class Outcome(NamedTuple):
    """How a call of ``run_study`` ended.

    Attributes:
      ended: the runs that failed, and whether a signal stopped the study.
      findings: None until a run of the reference is finished.
    """

    ended: Ended
    findings: Findings | None


def run_study(
    plan: Plan,
    workdir: Path,
    *,
    title: str,
    say: Say,
    minutes: float | None = None,
    replicates: int = 1000,
    progress: bool = True,
) -> Outcome:
    """Does the unfinished runs of a study and writes its report.

    Args:
      plan: plan of the study.
      workdir: receives the work directories ``runs/CELL/seedN``, ``starts.json``, the costs ``cost/CELL.json`` and
        ``report/``.
      title: title of the report.
      say: receives messages about progress.
      minutes: maximum minutes per run, in place of the budget's.
      replicates: number of resamples for intervals.
      progress: show progress bars.

    Raises:
      UserError: the study or a network that it starts from has changed since its runs were trained, or its budget is
        too small; trains nothing then.
    """
    runs = list_runs(plan, workdir)
    refuse_changed(runs)
    refuse_changed_starts(runs, workdir)
    check_writable_directory(workdir / "report")
    costs = _costs(plan, workdir, minutes, say)
    ended = do_runs(runs, plan, say=say, progress=progress)
    finished = [run for run in runs if run.name not in ended.failed and is_finished(run, plan)]
    missing = {run.name: ended.failed.get(run.name, "not done yet") for run in runs if run not in finished}
    findings = write_report(workdir / "report", plan, finished, missing, costs, title=title, replicates=replicates)
    return Outcome(ended, findings)


def describe_findings(findings: Findings) -> list[str]:
    """Describes the findings, a sentence for each comparison."""
    compared = [*(one for levels in findings.factors.values() for one in levels), *findings.controls]
    return [describe_comparison(one).replace("**", "") for one in compared]


def _costs(plan: Plan, workdir: Path, minutes: float | None, say: Say) -> dict[str, Cost]:
    budget = plan.study.budget
    if minutes is not None:
        budget = dataclasses.replace(budget, minutes_per_run=minutes)
    costs = {}
    for cell in plan.cells:
        kept = workdir / "cost" / f"{cell.name}.json"
        if not kept.is_file():
            say(f"measuring the cost of {cell.name}")
        try:
            costs[cell.name] = measure_or_read_cost(cell, plan.num_speakers, kept)
        except UserError as error:
            raise UserError(f"Cell {cell.name!r}: {error}") from None
        except Exception as error:  # such as too little memory: its runs will report it, and the other cells continue
            say(f"The cost of {cell.name} cannot be measured: {type(error).__name__}: {error}")
            continue
        try:
            check_minutes(cell, costs[cell.name], budget)
        except UserError:
            kept.unlink()  # the machine may have been busy, so the next call measures again
            raise
    return costs
