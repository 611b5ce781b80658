"""A part of a recording: from when to when, and which channel."""

from typing import NamedTuple

from mqmha_jax.errors import UserError

OVERSHOOT_S = 0.5
"""A part may end this much later than its file, and is shorter then: the ends in lists of segments are rounded."""


class Part(NamedTuple):
    """What is wanted of a file; by default all of it.

    Attributes:
      start_s: where the part starts.
      end_s: where it ends; None: where the file ends.
      channel: the channel to take, the first is 0; None: the mean of all channels.
    """

    start_s: float = 0.0
    end_s: float | None = None
    channel: int | None = None

    def frames(self, name: str, rate_hz: int, num_frames: int) -> slice:
        """Where the part lies in a file.

        Args:
          name: of the file, for the message.
          rate_hz: of the file.
          num_frames: samples of the file in each channel.

        Raises:
          UserError: the part does not lie in the file.
        """
        start = round(self.start_s * rate_hz)
        stop = num_frames if self.end_s is None else round(self.end_s * rate_hz)
        if not 0 <= start <= min(stop, num_frames) or stop > num_frames + OVERSHOOT_S * rate_hz:
            end = "its end" if self.end_s is None else f"{self.end_s:g} s"
            raise UserError(
                f"{name}: has no part from {self.start_s:g} s to {end}; it is {num_frames / rate_hz:.2f} s long. "
                "Correct the list that names the part."
            )
        return slice(start, min(stop, num_frames))


WHOLE = Part()
