"""What an evaluation needs of embeddings, wherever they come from: ``run_source.py`` or ``file_source.py``."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from mqmha_jax.data.metadata import Metadata
from mqmha_jax.types import Embeddings


class Background(NamedTuple):
    """Against what scores are taken.

    Attributes:
      mean: ``[E]``, subtracted from every embedding; None: nothing is.
      cohort: ``[n, E]`` embeddings that normalise scores; None: scores stay as they are.
      cohort_speakers: their speakers, where known.
    """

    mean: Float32[np.ndarray, " E"] | None
    cohort: Float32[np.ndarray, "n E"] | None
    cohort_speakers: tuple[str, ...]


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
    """Something that has, or makes, the embeddings of utterances."""

    @property
    def name(self) -> str:
        """What made the embeddings, for reports."""

    @property
    def known(self) -> Metadata:
        """Speakers and columns of the utterances."""

    @property
    def utterances(self) -> Collection[str]:
        """Ids of the utterances at hand."""

    @property
    def training_speakers(self) -> Sequence[str]:
        """Speakers that the network was trained on, where known."""

    def training_utterances(self) -> Iterable[str]:
        """Utterances that it was trained on, where known."""

    def background(self, cohort: Path | None, *, use_mean: bool) -> Background:
        """Mean and cohort, in the same space as the embeddings."""

    def labelled(self, path: Path, *, per_speaker: int) -> Labelled:
        """At most so many utterances of each speaker of what lies at a path, in the same space as the embeddings."""

    def embeddings(self, utterances: Collection[str]) -> Embeddings:
        """Embeddings of these utterances."""
