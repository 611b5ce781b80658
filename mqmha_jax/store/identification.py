"""The result of a search among enrolled speakers, and how it prints."""

import html
from typing import Any, Literal, NamedTuple

from mqmha_jax.features.speech_evidence import SpeechEvidence

Verdict = Literal["match", "nobody", "unsure"]


class Match(NamedTuple):
    """An enrolled speaker who may be speaking in a recording.

    Attributes:
      speaker: name.
      score: mean cosine with the speaker's recordings.
      probability: that the recording is of this speaker; None without a calibration.
    """

    speaker: str
    score: float
    probability: float | None


class Identification(NamedTuple):
    """The answer to the question which enrolled speaker speaks in a recording.

    Attributes:
      recording: name of the recording.
      verdict: "match": the first of ``matches``; "nobody" of the enrolled; "unsure"; None without a calibration and a
        threshold.
      matches: the nearest speakers, the nearest first; none if the recording holds too little speech.
      nobody: probability that nobody enrolled speaks; None without a calibration.
      threshold: score from which a speaker matches; None where the calibration decides, or if unknown.
      reason: why the verdict is "unsure", if the scores are not the reason, e.g. "0.4 s of speech".
      evidence: the speech in the recording.
    """

    recording: str
    verdict: Verdict | None
    matches: tuple[Match, ...]
    nobody: float | None
    threshold: float | None
    reason: str
    evidence: SpeechEvidence

    @property
    def speaker(self) -> str | None:
        """Name of the speaker; None if the verdict is another than "match"."""
        return self.matches[0].speaker if self.verdict == "match" else None

    def sentence(self) -> str:
        """The answer in words, without the recording's name."""
        if self.reason:
            return f"unsure: {self.reason}"
        if not self.matches:
            return "nobody enrolled"
        best = self.matches[0]
        how = f"score {best.score:.3f}"
        if self.threshold is not None:
            how += f", threshold {self.threshold:.3f}"
        if self.verdict is None:
            return f"nearest to {best.speaker} ({how}); no threshold is known, 'mqmha evaluate' finds one"
        if self.verdict == "match":
            sure = "" if best.probability is None else f"probability {best.probability:.1%}, "
            return f"{best.speaker} ({sure}{how})"
        if self.verdict == "nobody":
            sure = "" if self.nobody is None else f"probability {self.nobody:.1%}, "
            return f"nobody enrolled ({sure}nearest to {best.speaker}, {how})"
        return f"unsure: {best.speaker} {best.probability:.1%}, nobody enrolled {self.nobody:.1%}"

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON values."""
        return {
            "recording": self.recording,
            "verdict": self.verdict,
            "speaker": self.speaker,
            "nobody": self.nobody,
            "threshold": self.threshold,
            "reason": self.reason or None,
            "speech_s": round(self.evidence.speech_s, 3),
            "duration_s": round(self.evidence.duration_s, 3),
            "matches": [match._asdict() for match in self.matches],
        }

    def text(self) -> str:
        """The answer with the recording's name, and a line for each match."""
        width = max((len(match.speaker) for match in self.matches), default=0)
        rows = [f"  {match.speaker:{width}}  score {match.score:6.3f}{_probability(match)}" for match in self.matches]
        return "\n".join([f"{self.recording}: {self.sentence()}", *rows])

    def __repr__(self) -> str:
        """The text, as the prompt shows it."""
        return f"<Identification: {self.text()}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(match.speaker)}</td><td>{match.score:.3f}</td><td>{_probability(match)[2:]}</td></tr>"
            for match in self.matches
        )
        return f"<p>{html.escape(f'{self.recording}: {self.sentence()}')}</p><table>{rows}</table>"


def _probability(match: Match) -> str:
    return "" if match.probability is None else f", {match.probability:.1%}"
