"""The answers of the API, as its documentation describes them."""

import datetime
from typing import Literal

from pydantic import BaseModel, Field

from mqmha_jax.features.speech_evidence import SpeechEvidence
from mqmha_jax.store.changes import Speaker
from mqmha_jax.store.identification import Identification


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="A sentence: what is wrong, what is valid, what to do.")


class Heard(BaseModel):
    """Measures of a recording: how well it suits a comparison of speakers."""

    name: str = Field(description="The file name that the client gave, without folders, or the name of the field.")
    duration_s: float = Field(description="Length in seconds.")
    speech_s: float = Field(description="Seconds of speech in it.")
    level_dbfs: float = Field(description="Mean level of the speech; a sine of full scale has -3 dB.")
    clipped_share: float = Field(description="Share of the samples at full scale, 0 to 1.")
    concerns: list[str] = Field(description="What makes an answer doubtful, such as '0.4 s of speech'; mostly nothing.")

    @classmethod
    def of(cls, name: str, evidence: SpeechEvidence) -> "Heard":
        """The measures of a recording under its name."""
        return cls(name=name, concerns=evidence.concerns(), **evidence._asdict())


class Embedded(BaseModel):
    """The embedding of a recording."""

    embedding: list[float] = Field(description="[E], not of unit length; the mean embedding is not subtracted.")
    recording: Heard


class Compared(BaseModel):
    """Whether two recordings have the same speaker."""

    verdict: Literal["same", "different", "unsure"] | None = Field(
        description="null if the network has neither a calibration nor a threshold."
    )
    sentence: str = Field(description="The answer in words.")
    score: float = Field(description="Cosine of the embeddings, -1 to 1.")
    threshold: float | None = Field(description="Score from which on the speakers are the same; null if unknown.")
    probability: float | None = Field(
        description="Of the same speaker, if both answers were equally likely before; null without a calibration, or "
        "with too little speech."
    )
    reason: str = Field(description="Why the verdict is 'unsure', if the score is not the reason; else empty.")
    recordings: list[Heard]


class Enrolled(BaseModel):
    """An enrolled speaker."""

    name: str
    num_recordings: int
    speech_s: float = Field(description="Seconds of speech in all recordings.")
    enrolled: datetime.datetime = Field(description="When the last recording was added, UTC.")
    warnings: list[str] = Field([], description="What is doubtful about the added recordings; mostly nothing.")

    @classmethod
    def of(cls, speaker: Speaker, warnings: list[str] | None = None) -> "Enrolled":
        """A speaker of a store."""
        return cls(
            name=speaker.name,
            num_recordings=len(speaker.recordings),
            speech_s=speaker.speech_s,
            enrolled=speaker.enrolled,
            warnings=warnings or [],
        )


class Candidate(BaseModel):
    """An enrolled speaker who may be speaking in a recording."""

    name: str
    score: float = Field(description="Mean cosine with the speaker's recordings.")
    probability: float | None = Field(description="That the recording is of this speaker; null without a calibration.")


class Identified(BaseModel):
    """The enrolled speaker of a recording."""

    verdict: Literal["match", "nobody", "unsure"] | None = Field(
        description="'match': the first candidate; null if the network has neither a calibration nor a threshold."
    )
    sentence: str = Field(description="The answer in words.")
    candidates: list[Candidate] = Field(description="The nearest first; none if there is too little speech.")
    nobody: float | None = Field(description="Probability that nobody enrolled speaks; null without a calibration.")
    threshold: float | None = Field(description="Score from which a speaker matches; null where probabilities decide.")
    reason: str = Field(description="Why the verdict is 'unsure', if the scores are not the reason; else empty.")
    recording: Heard

    @classmethod
    def of(cls, found: Identification) -> "Identified":
        """The answer of a store."""
        return cls(
            verdict=found.verdict,
            sentence=found.sentence(),
            candidates=[
                Candidate(name=match.speaker, score=match.score, probability=match.probability)
                for match in found.matches
            ],
            nobody=found.nobody,
            threshold=found.threshold,
            reason=found.reason,
            recording=Heard.of(found.recording, found.evidence),
        )


class Status(BaseModel):
    """The network that runs, and the limits of requests."""

    network: str = Field(description="The run and its checkpoint.")
    encoder: str
    pooling: str
    embedding_dim: int
    sample_rate_hz: int = Field(description="Recordings of other rates are resampled.")
    threshold: float | None
    calibrated: bool
    num_speakers: int | None = Field(description="Enrolled; null where the server has no store.")
    warm: bool = Field(description="False while programs for the usual lengths are being compiled; answers are slower.")
    max_bytes: int = Field(description="Of a request.")
    max_seconds: float = Field(description="Of a recording.")
    max_requests: int = Field(description="At the same time; the next one gets 503 with Retry-After.")
