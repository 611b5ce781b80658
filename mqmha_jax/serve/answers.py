"""The answers of the API, as its documentation describes them."""

from typing import Literal

from pydantic import BaseModel, Field

from mqmha_jax.features.speech_evidence import SpeechEvidence


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="A sentence: what is wrong, what is valid, what to do.")


class Heard(BaseModel):
    """What a recording offers to a comparison of speakers."""

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


class Status(BaseModel):
    """What runs here, and what it accepts."""

    network: str = Field(description="The run and its checkpoint.")
    encoder: str
    pooling: str
    embedding_dim: int
    sample_rate_hz: int = Field(description="Recordings of other rates are resampled.")
    threshold: float | None
    calibrated: bool
    warm: bool = Field(description="False while programs for the usual lengths are being compiled; answers are slower.")
    max_bytes: int = Field(description="Of a request.")
    max_seconds: float = Field(description="Of a recording.")
    max_requests: int = Field(description="At the same time; the next one gets 503 with Retry-After.")
