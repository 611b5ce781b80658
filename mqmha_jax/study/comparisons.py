"""Which cells are held against which, and what may be said of it in plain words."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from mqmha_jax.study.effects import EER, METRICS, Effect, Measured, effects, holm
from mqmha_jax.study.plan import Cell
from mqmha_jax.study.spec import Study

SURE = 0.05


class Comparison(NamedTuple):
    """One group of cells against another on the list that decides.

    Attributes:
      name: what is compared with what.
      plus: cells that might be better.
      minus: cells that they are held against.
      effects: metric -> difference.
      adjusted: p of the EER's difference after Holm, for all comparisons made together with this one.
      together: how many these were.
    """

    name: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    effects: Mapping[str, Effect]
    adjusted: float
    together: int

    @property
    def eer(self) -> Effect:
        """The difference in EER."""
        return self.effects[METRICS[EER]]

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"`` or ``"not distinguishable"``, after Holm's adjustment."""
        if self.adjusted >= SURE:
            return "not distinguishable"
        return "better" if self.eer.difference < 0 else "worse"


def against_reference(measured: Measured, cells: Collection[str], reference: str) -> list[Comparison]:
    """Every other cell against the reference."""
    return _adjusted(
        measured, {f"{cell} against {reference}": ((cell,), (reference,)) for cell in cells if cell != reference}
    )


def against_controls(measured: Measured, cells: Sequence[Cell]) -> list[Comparison]:
    """Every cell that has a control of its size against that control."""
    return _adjusted(
        measured, {f"{c.control_of} against {c.name}": ((c.control_of,), (c.name,)) for c in cells if c.control_of}
    )


def by_factor(measured: Measured, study: Study, cells: Collection[str]) -> dict[str, list[Comparison]]:
    """Each level of a factor against the reference's level, averaged over cells that differ in nothing else.

    Args:
      measured: of the list that decides.
      study: tells levels and reference.
      cells: that are finished, without controls.
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
        found[factor.name] = _adjusted(measured, sides)
    return found


def sentence(comparison: Comparison) -> str:
    """What a comparison shows, for people who do not know what a bootstrap is."""
    eer = comparison.eer
    low, high = (100 * end for end in eer.interval)
    points = 100 * abs(eer.difference)
    p_value = probability(comparison.adjusted)
    numbers = f"(95 % interval {low:+.2f} to {high:+.2f}; p {p_value}{_counted(comparison.together)})"
    over = f", mean over {len(comparison.plus)} pairs of cells" if len(comparison.plus) > 1 else ""
    way = "lower" if eer.difference < 0 else "higher"
    if comparison.verdict != "not distinguishable":
        return f"{comparison.name}: **{comparison.verdict}**, EER {points:.2f} points {way} {numbers}{over}."
    alone = "; alone it would have been called a difference" if eer.p_value < SURE else ""
    return (
        f"{comparison.name}: **not distinguishable**, EER {points:.2f} points {way} {numbers}{over}{alone}. "
        f"A difference below about {100 * eer.smallest_shown:.2f} points could not have been shown with these lists "
        "and seeds."
    )


def probability(p_value: float) -> str:
    """A p as tables print it: what is smaller than resamples can tell is not printed as zero."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def _counted(together: int) -> str:
    return f", {together} comparisons counted" if together > 1 else ""


def _adjusted(measured: Measured, sides: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> list[Comparison]:
    found = {name: effects(measured, plus, minus) for name, (plus, minus) in sides.items()}
    adjusted = holm([own[METRICS[EER]].p_value for own in found.values()])
    return [
        Comparison(name, *sides[name], own, p, len(sides))
        for (name, own), p in zip(found.items(), adjusted, strict=True)
    ]
