"""Computes the findings of the finished runs of a study."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mqmha_jax.study.comparisons import Comparison, compare_by_factor, compare_with_controls, compare_with_reference
from mqmha_jax.study.cost import Cost
from mqmha_jax.study.effects import METRICS, Measured, estimate_effects, measure
from mqmha_jax.study.plan import Plan
from mqmha_jax.study.results import read_list
from mqmha_jax.study.runs import Run


class Findings(NamedTuple):
    """All numbers of a report.

    Attributes:
      measured: metrics on each list; the deciding list is last.
      cells: comparisons of cells with the reference.
      factors: comparisons of the levels of each factor with the reference's level.
      controls: comparisons of cells with controls of their size.
    """

    measured: list[Measured]
    cells: list[Comparison]
    factors: dict[str, list[Comparison]]
    controls: list[Comparison]

    @property
    def deciding(self) -> Measured:
        """Metrics that the verdicts use."""
        return self.measured[-1]


def derive_findings(plan: Plan, finished: Sequence[Run], *, replicates: int) -> Findings:
    """Compares the finished runs.

    Args:
      plan: plan of the study.
      finished: finished runs; at least one is of the reference.
      replicates: number of resamples of speakers and seeds.
    """
    study = plan.study
    lists = [read_list(part.name, finished) for part in plan.lists]
    measured = measure(lists, mean=not study.decide_on, replicates=replicates)
    if study.decide_on:
        measured.sort(key=lambda part: part.name == study.decide_on)
    decides, done = measured[-1], {run.cell.name for run in finished}
    cells = [cell for cell in plan.cells if cell.name in done]
    grid = [cell.name for cell in cells if not cell.control_of]
    controls = [cell for cell in cells if cell.control_of in done]
    return Findings(
        measured,
        compare_with_reference(decides, [cell.name for cell in cells], study.reference),
        compare_by_factor(decides, study, grid),
        compare_with_controls(decides, controls),
    )


def collect_numbers(
    plan: Plan,
    finished: Sequence[Run],
    missing: Mapping[str, str],
    costs: Mapping[str, Cost],
    found: Findings,
    title: str,
    replicates: int,
) -> dict[str, Any]:
    """Collects all numbers of a report as JSON values.

    Args:
      plan: plan of the study.
      finished: finished runs.
      missing: unfinished run -> reason.
      costs: cost of each cell.
      found: result of ``derive_findings``.
      title: title of the report.
      replicates: number of resamples that ``derive_findings`` made.
    """
    return {
        "title": title,
        "question": plan.study.question,
        "reference": plan.study.reference,
        "decides": found.deciding.name,
        "replicates": replicates,
        "finished": [run.name for run in finished],
        "not_finished": dict(missing),
        "cells": {
            cell.name: {
                "network_parameters": cell.parameters,
                "control_of": cell.control_of or None,
                "cost": dataclasses.asdict(costs[cell.name]) if cell.name in costs else None,
            }
            for cell in plan.cells
        },
        "lists": {part.name: _list_numbers(part, plan.study.reference) for part in found.measured},
        "against_reference": [_comparison_numbers(one) for one in found.cells],
        "factors": {name: [_comparison_numbers(one) for one in levels] for name, levels in found.factors.items()},
        "against_controls": [_comparison_numbers(one) for one in found.controls],
    }


def _list_numbers(part: Measured, reference: str) -> dict[str, Any]:
    return {
        "speakers": part.num_speakers,
        "reliable": part.reliable,
        "cells": {
            cell: {
                metric: {
                    "seeds": seeds[:, j].tolist(),
                    "interval": part.interval(cell)[j].tolist(),
                    "less_reference": None
                    if cell == reference
                    else estimate_effects(part, [cell], [reference])[metric]._asdict(),
                }
                for j, metric in enumerate(METRICS)
            }
            for cell, seeds in part.estimates.items()
        },
    }


def _comparison_numbers(comparison: Comparison) -> dict[str, Any]:
    effects = {metric: own._asdict() for metric, own in comparison.effects.items()}
    return comparison._asdict() | {"effects": effects, "verdict": comparison.verdict}
