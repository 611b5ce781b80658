"""The result of comparing two recordings, and how it prints."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mqmha_jax.evaluation.scoring.calibration import decision
from mqmha_jax.features.speech_evidence import SpeechEvidence


class Verification(NamedTuple):
    """Whether two recordings have the same speaker.

    Attributes:
      score: cosine in [-1, 1].
      verdict: "same", "different", or "unsure"; None without a calibration and a threshold.
      probability: of the same speaker, after the given prior (0.5 if none is given); None without a calibration,
        and if a recording holds too little speech.
      threshold: score at which false alarms and misses were equally frequent on an evaluated list; None if unknown.
      reason: why the verdict is "unsure", if the score is not the reason, e.g. "0.4 s of speech in a.wav".
      evidence: the speech in the two recordings; empty if it was not measured.
    """

    score: float
    verdict: Literal["same", "different", "unsure"] | None
    probability: float | None
    threshold: float | None
    reason: str = ""
    evidence: tuple[SpeechEvidence, ...] = ()

    @property
    def same(self) -> bool | None:
        """True, False, or None if it is unknown or unsure."""
        return {"same": True, "different": False}.get(self.verdict or "")

    def sentence(self, workdir: Path | None = None, step: int | Literal["best"] | None = None) -> str:
        """Returns the answer as a sentence; if no threshold is known, with the command that finds one.

        Args:
          workdir: of the run; None: without the command.
          step: of the checkpoint; None: the newest.
        """
        if self.reason:
            return f"unsure: {self.reason}"
        if self.verdict is None:
            of_step = "" if step is None else f" --step {step}"
            advice = "" if workdir is None else f", run 'mqmha evaluate {workdir}{of_step}' for one"
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


def reach_verdict(
    score: float,
    llr: float | None,
    threshold: float | None,
    *,
    prior: float,
    confidence: float,
    heard: Sequence[tuple[str, SpeechEvidence]],
    min_speech_s: float,
) -> Verification:
    """Decides whether two recordings have the same speaker: by the calibration if there is one, else by the threshold.

    Args:
      score: cosine of the two.
      llr: calibrated natural-log likelihood ratio of the score; None: no calibration.
      threshold: lowest score of the same speaker; None if unknown.
      prior: prior probability of the same speaker.
      confidence: the calibrated verdict is "unsure" if the likelier answer is less probable than this.
      heard: name of each recording, and the speech in it.
      min_speech_s: the verdict is "unsure" if a recording holds less speech than this.

    Raises:
      UserError: the prior or the confidence is out of range, or the likelihood ratio is not a number.
    """
    found = Verification(score, None, None, threshold, evidence=tuple(speech for _, speech in heard))
    reasons = [f"{why} in {name}" for name, speech in heard if (why := speech.shortfall(min_speech_s))]
    if reasons:
        distinct = dict.fromkeys(reasons)  # a recording may be compared with itself
        return found._replace(verdict="unsure", reason=" and ".join(distinct))
    if llr is not None:
        verdict, probability = decision(llr, prior, confidence=confidence)
        return found._replace(verdict=verdict, probability=probability)
    if threshold is not None:
        return found._replace(verdict="same" if score >= threshold else "different")
    return found
