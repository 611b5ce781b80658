"""The wanted part of decoded audio as one channel at the wanted rate, block by block."""

from typing import Annotated

import numpy as np
import soxr
from annotated_types import Ge
from jaxtyping import Float32

from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.features.part import Part
from mqmha_jax.field_checks import check_value

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000
"""Another sample rate in a header is damage: at 1 Hz, 96 kB would become 13 hours."""

LONGEST_S = 6 * 3600.0
"""At most this much of a recording is read; at 16 kHz that takes 1.4 GB, and twice as much while blocks are joined."""

LARGEST_SAMPLE = 16.0
"""Full scale is 1, and floating-point audio may exceed it by a little; this is 24 dB above."""

CANCEL_DB = 20.0
"""If the mean of the channels is this far below that of unrelated ones, they cancel each other."""


class TooLongError(UserError):
    """A recording is longer than the caller accepts."""


class Mixdown:
    """Takes blocks of samples of all channels, in order."""

    def __init__(self, name: str, sample_rate_hz: int, part: Part, longest_s: float = LONGEST_S) -> None:
        """Begins without samples.

        Args:
          name: what messages call the recording.
          sample_rate_hz: rate of the result.
          part: what is wanted.
          longest_s: seconds that are read at most.

        Raises:
          UserError: the channel is not an integer of at least 0.
        """
        if part.channel is not None:  # NumPy would take -1 for the last one
            check_value(f"{name}: channel", part.channel, Annotated[int, Ge(0)])
        self._name, self._target_hz, self._part, self._longest_s = name, sample_rate_hz, part, longest_s
        self._rate_hz = self._num_channels = 0
        self._position = 0  # samples that have passed
        self._resampler: soxr.ResampleStream | None = None
        self._num_kept = self._num_broken = 0
        self._first_broken: int | None = None
        self._largest = 0.0
        self._power_of_mean = self._power_of_channels = 0.0

    def begin(self, rate_hz: int, num_channels: int, first: int = 0) -> None:
        """Says what the next blocks are.

        Args:
          rate_hz: their sample rate.
          num_channels: of each.
          first: samples of this recording that are left out before.

        Raises:
          UserError: the sample rate or the channel is impossible, or the file holds recordings of two formats.
        """
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise UserError(
                f"{self._name}: has a sample rate of {rate_hz:,} Hz by its header; valid: {LOWEST_RATE_HZ:,} to "
                f"{HIGHEST_RATE_HZ:,} Hz. The header is damaged; copy or download the file again."
            )
        channel = self._part.channel
        if channel is not None and channel >= num_channels:
            raise UserError(
                f"{self._name}: has {count_noun(num_channels, 'channel')}, so no channel {channel} (counted from 0)."
            )
        if self._rate_hz and (rate_hz, num_channels) != (self._rate_hz, self._num_channels):
            raise UserError(
                f"{self._name}: holds several recordings, one with {self._num_channels} channels at {self._rate_hz} Hz "
                f"and one with {num_channels} at {rate_hz} Hz. Give each one a file of its own."
            )
        if self._resampler is None and rate_hz != self._target_hz:
            # librosa resamples with soxr at this quality, too, but takes seconds to import and needs the whole signal.
            self._resampler = soxr.ResampleStream(rate_hz, self._target_hz, 1, dtype="float32")
        self._rate_hz, self._num_channels = rate_hz, num_channels
        self._position += first

    @property
    def is_complete(self) -> bool:
        """Whether further blocks are not wanted."""
        start, stop = self._bounds()
        return stop is not None and 0 <= start <= stop <= self._position

    @property
    def is_broken(self) -> bool:
        """Whether samples were not finite; ``finish`` says which."""
        return self._first_broken is not None

    def add(self, block: Float32[np.ndarray, "n channels"]) -> Float32[np.ndarray, " kept"]:
        """Takes the samples that are wanted and returns those of the result that are complete, maybe none.

        Raises:
          TooLongError: more is wanted than is read.
        """
        start, stop = self._bounds()
        first, last = max(0, start - self._position), len(block) if stop is None else max(0, stop - self._position)
        wanted = block[first:last]
        self._position += len(block)
        if not len(wanted):
            return np.zeros(0, np.float32)
        if (self._num_kept + len(wanted)) / self._rate_hz > self._longest_s:
            raise TooLongError(
                f"{self._name}: holds more than {self._longest_s / 3600:g} hours; cut it into shorter files, or name a "
                "part of it (start_s, end_s in a list)."
            )
        mono = self._mix(wanted)
        finite = np.isfinite(mono)
        if not finite.all():
            if self._first_broken is None:
                self._first_broken = self._num_kept + int(finite.argmin())
            self._num_broken += int(np.count_nonzero(~finite))
        else:
            self._largest = max(self._largest, float(mono.max()), -float(mono.min()))
        self._num_kept += len(mono)
        return mono if self._resampler is None else np.asarray(self._resampler.resample_chunk(mono))

    def finish(self) -> Float32[np.ndarray, " rest"]:
        """Checks all of the recording and returns the last samples of the result, which the resampler held back.

        Raises:
          UserError: there are none, the recording has no such part, samples are NaN, infinite or of an absurd size, or
            channels cancel each other.
        """
        if not self._position:
            raise UserError(f"{self._name}: holds no samples (zero length); leave it out.")
        if not self.is_complete:
            self._part.frames(self._name, self._rate_hz, self._position)  # refuses a part that is not there
        if not self._num_kept:
            raise UserError(f"{self._name}: the selected part holds no samples (zero length); leave it out.")
        if self._first_broken is not None:
            raise UserError(
                f"{self._name}: {self._num_broken} of {self._num_kept} samples are NaN or infinite, the first at "
                f"{self._part.start_s + self._first_broken / self._rate_hz:.3f} s; write the file again."
            )
        check_amplitude(self._name, self._largest)
        self._check_cancelling()
        rest = np.zeros(0, np.float32)
        return rest if self._resampler is None else np.asarray(self._resampler.resample_chunk(rest, last=True))

    def _bounds(self) -> tuple[int, int | None]:
        """First sample of the part and the one after its last, None: the end."""
        end_s = self._part.end_s
        return round(self._part.start_s * self._rate_hz), None if end_s is None else round(end_s * self._rate_hz)

    def _mix(self, block: Float32[np.ndarray, "n channels"]) -> Float32[np.ndarray, " n"]:
        if self._part.channel is not None or self._num_channels == 1:
            return np.ascontiguousarray(block[:, self._part.channel or 0])
        with np.errstate(invalid="ignore", over="ignore"):  # infinities of either sign are told at the end
            mono = block.mean(axis=1)
            self._power_of_mean += float(np.square(mono, dtype=np.float64).sum())
            self._power_of_channels += float(np.square(block, dtype=np.float64).mean(axis=1).sum())
        return mono

    def _check_cancelling(self) -> None:
        unrelated = self._power_of_channels / max(1, self._num_channels)  # power of the mean of unrelated channels
        if self._power_of_mean < unrelated * 10 ** (-CANCEL_DB / 10):
            raise UserError(
                f"{self._name}: its {self._num_channels} channels cancel each other when they are averaged, as when "
                "one is wired in opposite phase. Take one of them: --channel 0, or 'channel' in a list."
            )


def check_amplitude(name: str, largest: float) -> None:
    """Refuses samples that are not audio with a full scale of 1.

    Raises:
      UserError: the largest sample is absurd.
    """
    if largest > LARGEST_SAMPLE:
        raise UserError(
            f"{name}: its samples reach {largest:.4g} where full scale is 1. If they are integers stored as floating "
            "point, divide them by 32768."
        )
