"""What an evaluation needs from a source of embeddings: ``run_source.py``, ``audio_source.py``, ``file_source.py``."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from mqmha_jax.data.metadata import Metadata
from mqmha_jax.types import Embeddings


class Background(NamedTuple):
    """The mean and the cohort that scores are computed with.

    Attributes:
      mean: ``[E]``, subtracted from every embedding; None subtracts nothing.
      cohort: ``[n, E]`` embeddings that normalise scores, with the mean subtracted; None: no normalisation.
    """

    mean: Float32[np.ndarray, " E"] | None
    cohort: Float32[np.ndarray, "n E"] | None


class Labelled(NamedTuple):
    """Embeddings of known speakers, to fit a back-end on.

    Attributes:
      embeddings: N utterances, vectors ``[N, E]``.
      speaker: of each of the N.
    """

    embeddings: Embeddings
    speaker: tuple[str, ...]


@runtime_checkable
class EmbeddingSource(Protocol):
    """Holds, or computes, the embeddings of utterances."""

    @property
    def name(self) -> str:
        """What made the embeddings, for reports."""

    @property
    def known(self) -> Metadata:
        """Speakers and columns of the utterances."""

    @property
    def utterances(self) -> Collection[str]:
        """Ids of the available utterances."""

    @property
    def left_out(self) -> Collection[str]:
        """Ids that lists name and that have no embedding, because the user allows some to be missing or unusable."""

    @property
    def training_speakers(self) -> Sequence[str]:
        """Speakers that the network was trained on, where known."""

    def training_utterances(self) -> Iterable[str]:
        """Utterances that it was trained on, where known."""

    def background(self, cohort: Path | None, *, use_mean: bool) -> Background:
        """The mean embedding, and the cohort at a path."""

    def speakers_at(self, path: Path) -> tuple[str, ...]:
        """The speaker of each vector that a cohort from this path has; embeds nothing."""

    def utterances_at(self, path: Path) -> Collection[str]:
        """Ids of the utterances that a cohort or a back-end takes from this path; embeds nothing."""

    def load_labelled(self, path: Path, *, per_speaker: int) -> Labelled:
        """Embeddings of the utterances at a path, at most ``per_speaker`` of each speaker."""

    def embeddings(self, utterances: Collection[str]) -> Embeddings:
        """Embeddings of these utterances; without those that now are in ``left_out``."""
