"""The answer to "is this one speaker?", and how it prints."""

import html
from pathlib import Path
from typing import Literal, NamedTuple

from mqmha_jax.features.speech_evidence import SpeechEvidence


class Verification(NamedTuple):
    """Whether two recordings are of one speaker.

    Attributes:
      score: cosine in [-1, 1].
      verdict: "same", "different", or "unsure"; None where neither calibration nor threshold is known.
      probability: of the same speaker, if both answers were equally likely before; None without a calibration, and
        where a recording holds too little speech.
      threshold: where false alarms and misses were equally frequent on an evaluated list; None where none is known.
      reason: why the verdict is "unsure", where that does not depend on the score, e.g. "0.4 s of speech in a.wav".
      evidence: what the two recordings hold; empty where it was not measured.
    """

    score: float
    verdict: Literal["same", "different", "unsure"] | None
    probability: float | None
    threshold: float | None
    reason: str = ""
    evidence: tuple[SpeechEvidence, ...] = ()

    @property
    def same(self) -> bool | None:
        """True, False, or None where it is not known or not sure."""
        return {"same": True, "different": False}.get(self.verdict or "")

    def sentence(self, workdir: Path | None = None) -> str:
        """What to say to the user; ``workdir`` is named where its evaluation is missing."""
        if self.reason:
            return f"unsure: {self.reason}"
        if self.verdict is None:
            advice = "" if workdir is None else f", run 'mqmha evaluate {workdir}' for one"
            return f"score {self.score:.3f}; no threshold is known{advice}"
        verdict = {"same": "same speaker", "different": "different speakers", "unsure": "unsure"}[self.verdict]
        if self.probability is None:
            return f"{verdict} (score {self.score:.3f}, threshold {self.threshold:.3f})"
        return f"{verdict} (probability of the same speaker {self.probability:.1%}, score {self.score:.3f})"

    def __repr__(self) -> str:
        """The sentence, as notebooks and the prompt show it."""
        return f"<Verification: {self.sentence()}>"

    def _repr_html_(self) -> str:
        colour = {"same": "#1a7f37", "different": "#b42318"}.get(self.verdict or "", "#6e6e6e")
        return f'<span style="color:{colour}">●</span> {html.escape(self.sentence())}'
