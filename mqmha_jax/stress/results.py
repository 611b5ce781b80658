"""The result of a stress test."""

from collections.abc import Mapping
from typing import NamedTuple

from mqmha_jax.evaluation.metrics.results import Measured


class Suffering(NamedTuple):
    """The effect of a condition on the trials of a list, or on average over several lists.

    Attributes:
      eer: equal error rate, a fraction.
      difference: ``eer`` minus that of the clean trials, with the interval of the same resamples of the speakers.
      miss: share of the targets below the threshold at which misses and false alarms are equally frequent when clean.
      false_alarm: share of the nontargets that this threshold accepts.
    """

    eer: Measured
    difference: Measured
    miss: float
    false_alarm: float


class ListUnderStress(NamedTuple):
    """A trial list under every condition.

    Attributes:
      name: of the list.
      num_targets: target trials.
      num_nontargets: the others.
      num_speakers: None where unknown, and for a mean.
      reliable: enough speakers to trust the intervals.
      conditions: by name, the clean one first.
    """

    name: str
    num_targets: int
    num_nontargets: int
    num_speakers: int | None
    reliable: bool
    conditions: Mapping[str, Suffering]


class StressTest(NamedTuple):
    """Everything that a stress test measured.

    Attributes:
      lists: one or more.
      mean: of the rates over several lists; None for one list.
      absent: conditions that were asked for and cannot be tested, with the reason.
      settings: what was tested and how, in words.
      notes: reasons to doubt the numbers.
    """

    lists: tuple[ListUnderStress, ...]
    mean: ListUnderStress | None
    absent: Mapping[str, str]
    settings: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def main(self) -> ListUnderStress:
        """The mean, or the only list."""
        return self.mean or self.lists[0]
