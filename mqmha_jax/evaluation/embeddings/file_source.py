"""Embeddings of any system, from files."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mqmha_jax.data.embedding_files import read_embeddings, read_mean
from mqmha_jax.data.metadata import Metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.sources import Background, Labelled
from mqmha_jax.evaluation.embeddings.speakers import sample_per_speaker
from mqmha_jax.evaluation.numbers import require_direction
from mqmha_jax.say import Say, say_nothing
from mqmha_jax.types import Embeddings


class FileSource:
    """Embeddings from files."""

    training_speakers: Sequence[str] = ()
    left_out: Collection[str] = ()

    def __init__(
        self,
        paths: Sequence[Path],
        known: Metadata,
        *,
        mean: Path | None = None,
        say: Say = say_nothing,
    ) -> None:
        """Read them.

        Args:
          paths: one or more files or folders, see ``read_embeddings``.
          known: about their utterances.
          mean: embeddings whose mean is subtracted, or a mean that a run keeps; see ``read_mean``.
          say: receives a sentence on which mean is subtracted.

        Raises:
          UserError: they cannot be read, differ in size, or two hold one utterance.
        """
        self._mean_of, self._say = mean, say
        parts = [read_embeddings(path) for path in dict.fromkeys(paths)]
        self.name = ", ".join(path.name for path in dict.fromkeys(paths))
        self.known = known
        self._vectors: dict[str, np.ndarray] = {}
        self._further: dict[Path, Embeddings] = {}
        for path, part in zip(dict.fromkeys(paths), parts, strict=True):
            _require_size(path, part.vectors, parts[0].vectors.shape[1])
            for utterance, vector in zip(*part, strict=True):
                if utterance in self._vectors:
                    raise UserError(f"{path}: {utterance!r} also has an embedding in another file; keep one of them.")
                self._vectors[utterance] = vector
        self.utterances = self._vectors.keys()

    def training_utterances(self) -> Iterable[str]:
        """Not known."""
        return ()

    def background(self, cohort: Path | None, *, use_mean: bool) -> Background:
        """Every embedding of a file is a member of the cohort; their mean replaces an unknown one.

        Raises:
          UserError: a file cannot be read, or its embeddings have another size.
        """
        vectors = None if cohort is None else self._read(cohort).vectors
        mean = self._mean(cohort, vectors) if use_mean else None
        return Background(mean, vectors if vectors is None or mean is None else vectors - mean[None])

    def _mean(self, cohort: Path | None, vectors: Float[np.ndarray, "n E"] | None) -> Float[np.ndarray, " E"] | None:
        """The mean that was given, else that of the cohort, else none; says which."""
        if self._mean_of is not None:
            mean = read_mean(self._mean_of)
            _require_size(self._mean_of, mean[None], len(next(iter(self._vectors.values()))))
            self._say(f"The mean of {self._mean_of} is subtracted from all embeddings.")
            return mean
        if vectors is not None:
            self._say(f"The mean of the cohort {cohort} is subtracted from all embeddings.")
            return vectors.mean(axis=0)
        self._say(
            "No mean is subtracted, because that of the training set is not known; it usually lowers the error rate. "
            "Give it with --mean FILE: embeddings of training speakers, or mean_embedding-STEP.npz of the run. Without "
            "it, --no-mean accepts the embeddings as they are."
        )
        return None

    def speakers_at(self, path: Path) -> tuple[str, ...]:
        """The speaker of each embedding of a file; where it is unknown, the utterance's id.

        Raises:
          UserError: the file cannot be read, or its embeddings have another size.
        """
        return tuple(self.known.utt2spk.get(utterance, utterance) for utterance in self._read(path).ids)

    def utterances_at(self, path: Path) -> Collection[str]:
        """The ids of a file; raises as ``speakers_at``."""
        return self._read(path).ids

    def load_labelled(self, path: Path, *, per_speaker: int) -> Labelled:
        """Some of the embeddings of a file; their speakers come from the metadata.

        Raises:
          UserError: the file cannot be read, its embeddings have another size, or a speaker is not known.
        """
        ids, vectors = self._read(path)
        unknown = [utterance for utterance in ids if utterance not in self.known.utt2spk]
        if unknown:
            raise UserError(
                f"{path}: the speakers of {len(unknown)} of {len(ids)} utterances are not known, first that of "
                f"{unknown[0]!r}; a back-end is fitted on known speakers: add them to --metadata."
            )
        rows = sample_per_speaker(np.array([self.known.utt2spk[utterance] for utterance in ids]), per_speaker)
        chosen = tuple(ids[row] for row in rows)
        return Labelled(Embeddings(chosen, vectors[rows]), tuple(self.known.utt2spk[one] for one in chosen))

    def embeddings(self, utterances: Collection[str]) -> Embeddings:
        """The embeddings of these utterances."""
        wanted = set(utterances)
        chosen = [utterance for utterance in self._vectors if utterance in wanted]
        return Embeddings(tuple(chosen), np.stack([self._vectors[utterance] for utterance in chosen]))

    def _read(self, path: Path) -> Embeddings:
        if path not in self._further:  # a cohort is asked for its speakers and for its embeddings
            embeddings = read_embeddings(path)
            require_direction(embeddings.vectors, embeddings.ids, what=f"embeddings in {path}")
            _require_size(path, embeddings.vectors, len(next(iter(self._vectors.values()))))
            self._further[path] = embeddings
        return self._further[path]


def _require_size(path: Path, vectors: np.ndarray, size: int) -> None:
    if vectors.shape[1] != size:
        raise UserError(
            f"{path}: embeddings of size {vectors.shape[1]}, the others have {size}; valid: all from one network."
        )
