"""Compares cells with each other and says the results in plain words."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from mqmha_jax.study.effects import EER, METRICS, Effect, Measured, adjust_by_holm, estimate_effects
from mqmha_jax.study.plan import Cell
from mqmha_jax.study.spec import Study

SURE = 0.05


class Comparison(NamedTuple):
    """One group of cells compared with another on the deciding list.

    Attributes:
      name: what is compared with what.
      plus: cells that might be better.
      minus: cells that they are compared with.
      effects: metric -> difference.
      adjusted: p-value of the EER's difference after Holm's adjustment for all comparisons made together.
      together: number of comparisons made together.
    """

    name: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    effects: Mapping[str, Effect]
    adjusted: float
    together: int

    @property
    def eer(self) -> Effect:
        """Difference in EER."""
        return self.effects[METRICS[EER]]

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"`` or ``"not distinguishable"``, after Holm's adjustment."""
        if self.adjusted >= SURE:
            return "not distinguishable"
        return "better" if self.eer.difference < 0 else "worse"


def compare_with_reference(measured: Measured, cells: Collection[str], reference: str) -> list[Comparison]:
    """Compares every other cell with the reference."""
    return _compare_all(
        measured, {f"{cell} against {reference}": ((cell,), (reference,)) for cell in cells if cell != reference}
    )


def compare_with_controls(measured: Measured, cells: Sequence[Cell]) -> list[Comparison]:
    """Compares every cell that has a control of its size with that control."""
    return _compare_all(
        measured, {f"{c.control_of} against {c.name}": ((c.control_of,), (c.name,)) for c in cells if c.control_of}
    )


def compare_by_factor(measured: Measured, study: Study, cells: Collection[str]) -> dict[str, list[Comparison]]:
    """Compares each level of a factor with the reference's level, averaged over pairs of cells that differ only in it.

    Args:
      measured: metrics on the deciding list.
      study: study that defines levels and reference.
      cells: finished cells, without controls.
    """
    usual = study.levels(study.reference)
    found = {}
    for factor in study.factors:
        sides: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        for level in factor.levels:
            pairs = [
                (cell, other)
                for cell in cells
                for other in cells
                if study.levels(cell) == study.levels(other) | {factor.name: level}
                and study.levels(other)[factor.name] == usual[factor.name]
            ]
            if pairs and level != usual[factor.name]:
                plus, minus = zip(*pairs, strict=True)
                sides[f"{factor.name} {level} against {usual[factor.name]}"] = (plus, minus)
        found[factor.name] = _compare_all(measured, sides)
    return found


def describe_comparison(comparison: Comparison) -> str:
    """Describes a comparison for readers who do not know what a bootstrap is."""
    eer = comparison.eer
    low, high = (100 * end for end in eer.interval)
    points = 100 * abs(eer.difference)
    p_value = format_p_value(comparison.adjusted)
    numbers = f"(95 % interval {low:+.2f} to {high:+.2f}; p {p_value}{_say_count(comparison.together)})"
    over = f", mean over {len(comparison.plus)} pairs of cells" if len(comparison.plus) > 1 else ""
    way = "lower" if eer.difference < 0 else "higher"
    if comparison.verdict != "not distinguishable":
        return f"{comparison.name}: **{comparison.verdict}**, EER {points:.2f} points {way} {numbers}{over}."
    alone = "; a single comparison would count as a difference" if eer.p_value < SURE else ""
    return (
        f"{comparison.name}: **not distinguishable**, EER {points:.2f} points {way} {numbers}{over}{alone}. "
        f"These lists and seeds could not show a difference below about {100 * eer.smallest_shown:.2f} points."
    )


def format_p_value(p_value: float) -> str:
    """Formats a p-value; values smaller than the resamples can tell are not printed as zero."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def _say_count(together: int) -> str:
    return f", {together} comparisons counted" if together > 1 else ""


def _compare_all(measured: Measured, sides: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> list[Comparison]:
    found = {name: estimate_effects(measured, plus, minus) for name, (plus, minus) in sides.items()}
    adjusted = adjust_by_holm([own[METRICS[EER]].p_value for own in found.values()])
    return [
        Comparison(name, *sides[name], own, p, len(sides))
        for (name, own), p in zip(found.items(), adjusted, strict=True)
    ]
