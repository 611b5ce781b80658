"""The size of a train step and its batch, equal for all contenders of ``train_step.py``."""

from collections.abc import Callable
from typing import Any, NamedTuple

import click
import numpy as np

LEARNING_RATE = 1e-4  # constant and small, so that all contenders' losses after an update are comparable


class StepSize(NamedTuple):
    """The size of one step.

    Attributes:
      batch_size: number of utterances.
      classes: number of speakers of the head.
      frames: frames per utterance.
      bins: mel bands per frame.
      dtype: type of the encoder's activations.
    """

    batch_size: int
    classes: int
    frames: int
    bins: int
    dtype: str

    def arguments(self) -> list[str]:
        """Returns the command line that ``size_options`` reads."""
        return [f"--{name.replace('_', '-')}={value}" for name, value in self._asdict().items()]


def size_options(*, one_batch: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options of a :class:`StepSize` to a command.

    Args:
      one_batch: include ``--batch-size``; the driver has its own option for several sizes.
    """
    options = [
        click.option("--classes", type=click.IntRange(6), default=17_982, help="Speakers of the head."),
        click.option("--frames", type=click.IntRange(8), default=200, help="Frames per utterance."),
        click.option("--bins", type=click.IntRange(8), default=80, help="Mel bands per frame."),
        click.option(
            "--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Type of activations."
        ),
    ]
    if one_batch:
        options.append(click.option("--batch-size", type=click.IntRange(1), default=8, help="Utterances."))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def random_batch(size: StepSize, utterances_per_speaker: int) -> dict[str, np.ndarray]:
    """Draws frames with an offset, as a channel adds it, and speakers; the same numbers at every call.

    Utterances of a speaker are adjacent, as in training; speakers repeat only where there are too few.
    """
    rng = np.random.default_rng(0)
    speakers = np.resize(rng.permutation(size.classes), size.batch_size // utterances_per_speaker)
    frames = rng.standard_normal((size.batch_size, size.frames, size.bins), np.float32) + np.float32(3)
    return {
        "fbank": frames.astype(np.float16),
        "num_frames": np.full(size.batch_size, size.frames, np.int32),
        "speaker": np.repeat(speakers, utterances_per_speaker).astype(np.int32),
        "example": np.arange(size.batch_size, dtype=np.uint32),
    }
