"""The options of a stress test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Side = Literal["both", "test"]


class StressPlan(NamedTuple):
    """What is tested.

    Attributes:
      conditions: names of conditions or groups; empty: all.
      side: sides of the trials that the conditions change; "test": the enrolment side stays clean.
      noise: folder of noises; None: noise with the spectrum of the recordings.
      rooms: folder of impulse responses; None: without the condition that needs them.
      use_mean: subtract the mean embedding of the training set where it is known.
      replicates: resamples of the speakers for intervals; 0: no intervals.
      seed: of noises, rooms and resamples.
    """

    conditions: Sequence[str] = ()
    side: Side = "both"
    noise: Path | None = None
    rooms: Path | None = None
    use_mean: bool = True
    replicates: int = 1000
    seed: int = 0


EVERYTHING = StressPlan()
