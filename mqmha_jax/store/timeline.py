"""The result of tracking enrolled speakers over a recording, and how it prints."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from mqmha_jax.errors import UserError
from mqmha_jax.features.speech_evidence import SpeechEvidence

NOBODY = "nobody enrolled"
_WORTH_SAYING_S = 0.05


class Segment(NamedTuple):
    """Speech of one speaker.

    Attributes:
      start_s: where it starts.
      end_s: where it ends.
      speaker: an enrolled speaker; None: nobody enrolled.
      score: mean score of the speaker in it; of the nearest speaker if it is nobody's; NaN if nobody is enrolled.
    """

    start_s: float
    end_s: float
    speaker: str | None
    score: float


class Timeline(NamedTuple):
    """Which enrolled speaker speaks when in a recording.

    Attributes:
      recording: name of the recording.
      segments: in order of time; they do not overlap.
      evidence: the speech in the recording.
      threshold: score from which a speaker matches; None where a calibration decides.
      step_s: seconds from one column of ``scores`` to the next.
      speakers: the speakers of ``scores``: those with a segment, the most talkative first.
      scores: ``[speakers, steps]``; NaN where nobody speaks.
      unanswered_s: speech outside the segments: too little around it, or too short for a segment.
    """

    recording: str
    segments: tuple[Segment, ...]
    evidence: SpeechEvidence
    threshold: float | None
    step_s: float
    speakers: tuple[str, ...]
    scores: Float32[np.ndarray, "speakers steps"]
    unanswered_s: float = 0.0

    def totals(self) -> dict[str | None, float]:
        """Seconds of each speaker, the most talkative first; None: of nobody enrolled."""
        return total_seconds(self.segments)

    def text(self) -> str:
        """A table of the segments, and one of the totals."""
        names = [segment.speaker or NOBODY for segment in self.segments]
        width = max(map(len, names), default=0)
        rows = [
            f"{_clock(segment.start_s):>10} {_clock(segment.end_s):>10}  {name:{width}}"
            f"{'' if math.isnan(segment.score) else f'  score {segment.score:6.3f}'}"
            for segment, name in zip(self.segments, names, strict=True)
        ]
        totals = [f"{name or NOBODY} {seconds:.1f} s" for name, seconds in self.totals().items()]
        heard = f"{self.evidence.speech_s:.1f} s of speech in {self.evidence.duration_s:.1f} s"
        if self.unanswered_s >= _WORTH_SAYING_S:
            heard += f"; {self.unanswered_s:.1f} s of it too sparse for an answer"
        return "\n".join([f"{self.recording}: {heard}", *rows, *([", ".join(totals)] if totals else [])])

    def rttm(self) -> str:
        """The enrolled speakers' segments in NIST's Rich Transcription Time Marked format; spaces become "_".

        Raises:
          UserError: two speakers would get the same name.
        """
        check_rttm_names("speakers", [name for name in self.totals() if name is not None])
        name = _field(self.recording)
        return "".join(
            f"SPEAKER {name} 1 {one.start_s:.3f} {one.end_s - one.start_s:.3f} "
            f"<NA> <NA> {_field(one.speaker)} <NA> <NA>\n"
            for one in self.segments
            if one.speaker is not None
        )

    def to_dict(self) -> dict[str, Any]:
        """The segments as JSON values."""
        return {
            "recording": self.recording,
            "speech_s": round(self.evidence.speech_s, 3),
            "duration_s": round(self.evidence.duration_s, 3),
            "unanswered_s": round(self.unanswered_s, 3),
            "threshold": self.threshold,
            "segments": [
                {
                    "start_s": round(one.start_s, 3),
                    "end_s": round(one.end_s, 3),
                    "speaker": one.speaker,
                    "score": None if math.isnan(one.score) else round(one.score, 4),
                }
                for one in self.segments
            ],
        }

    def __repr__(self) -> str:
        """The tables, as the prompt shows them."""
        return f"<Timeline: {self.text()}>"


def check_rttm_names(what: str, names: Iterable[str]) -> None:
    """Refuses names that RTTM cannot tell apart, because its names have no spaces.

    Args:
      what: of what these are names, plural.
      names: all different.

    Raises:
      UserError: two names differ in spaces and underscores alone.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(_field(name), name)
        if other != name:
            raise UserError(
                f"The {what} {other!r} and {name!r} would both be {_field(name)!r} in RTTM, whose names have no "
                "spaces. Rename one, or take the answer as JSON."
            )


def total_seconds(segments: Sequence[Segment]) -> dict[str | None, float]:
    """Seconds of each speaker, the most talkative first."""
    totals: dict[str | None, float] = {}
    for one in segments:
        totals[one.speaker] = totals.get(one.speaker, 0.0) + one.end_s - one.start_s
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 2), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}"


def _field(name: str) -> str:
    return re.sub(r"\s+", "_", name)
