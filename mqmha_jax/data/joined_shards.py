"""Several directories of shards as one training set."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from etils import epath
from jaxtyping import Float16, Float32, Int32

from mqmha_jax.config import DataConfig, FbankSpec
from mqmha_jax.config_io import require_same_fbank
from mqmha_jax.data.ids import hash_names
from mqmha_jax.data.shard_format import select_original_speed
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError, count_noun


class JoinedShards:
    """The N utterances of several directories; their C speakers are the classes of one head.

    The classes are the speakers at the original speed, directory by directory, then the copies at other speeds.

    Attributes:
      parts: the shards of each directory.
      spec: how the frames were computed.
      speakers: names of the C speakers; the position is the class.
      speaker: class of each utterance, ``[N]``.
      num_frames: length of each utterance, ``[N]``.
      corpus: which directory each utterance is in, ``[N]``.
    """

    parts: tuple[FbankShards, ...]
    spec: FbankSpec
    speakers: tuple[str, ...]
    speaker: Int32[np.ndarray, " N"]
    num_frames: Int32[np.ndarray, " N"]
    corpus: Int32[np.ndarray, " N"]

    def __init__(self, parts: Sequence[FbankShards], *, join_speakers: bool = False) -> None:
        """Joins directories.

        Args:
          parts: their shards, with equal features.
          join_speakers: speakers with the same name in two directories are one class.

        Raises:
          UserError: a name is in two directories and ``join_speakers`` is false, or two directories hold one utterance.
        """
        self.parts, self.spec, self._join_speakers = tuple(parts), parts[0].spec, join_speakers
        _check_speakers(self.parts, join_speakers)
        originals = [select_original_speed(part.speakers) for part in parts]
        copies = [part.speakers[len(names) :] for part, names in zip(parts, originals, strict=True)]
        self.speakers = tuple(dict.fromkeys(name for names in (*originals, *copies) for name in names))
        class_of = {name: number for number, name in enumerate(self.speakers)}
        classes = [np.array([class_of[name] for name in part.speakers], np.int32) for part in parts]
        self.speaker = np.concatenate([own[part.speaker] for own, part in zip(classes, parts, strict=True)])
        self.num_frames = np.concatenate([part.num_frames for part in parts])
        self.corpus = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
        self._first = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        """Number of utterances, N."""
        return len(self.num_frames)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(JoinedShards, join_speakers=self._join_speakers), (self.parts,)

    @property
    def directory(self) -> str:
        """The directories, for messages."""
        return " and ".join(str(part.directory) for part in self.parts)

    @functools.cached_property
    def utterances(self) -> tuple[str, ...]:
        """The id of each utterance."""
        return tuple(name for part in self.parts for name in part.utterances)

    @functools.cached_property
    def measures(self) -> Mapping[str, Float32[np.ndarray, " N"]]:
        """Numeric columns that all directories have, each ``[N]``."""
        names = set.intersection(*(set(part.measures) for part in self.parts))
        return {name: np.concatenate([part.measures[name] for part in self.parts]) for name in sorted(names)}

    def utterance(self, index: int) -> str:
        """The id of utterance ``index``."""
        part, own = self._find(index)
        return part.utterance(own)

    def fbank(self, index: int) -> Float16[np.ndarray, "T F"]:
        """All frames of utterance ``index``; errors as ``FbankShards.fbank``."""
        part, own = self._find(index)
        return part.fbank(own)

    def crop(self, index: int, first_frame: int, num_frames: int) -> Float16[np.ndarray, "T F"]:
        """Consecutive frames of utterance ``index``, as ``FbankShards.crop``."""
        part, own = self._find(index)
        return part.crop(own, first_frame, num_frames)

    def identity(self) -> dict[str, Any]:
        """What tells this training set from others, as ``FbankShards.identity``; the order of directories counts."""
        fingerprints = [part.identity()["fingerprint"] for part in self.parts]
        return {
            "fingerprint": hashlib.sha256(" ".join(fingerprints).encode()).hexdigest(),
            "speakers": hash_names(self.speakers),
            "num_speakers": len(self.speakers),
            "num_utterances": len(self),
        }

    def _find(self, index: int) -> tuple[FbankShards, int]:
        corpus = int(self.corpus[index])
        return self.parts[corpus], int(index - self._first[corpus])


TrainingShards: TypeAlias = FbankShards | JoinedShards
"""A training set: one directory, or several."""


def open_training_shards(data: DataConfig, fbank: FbankSpec | None = None) -> TrainingShards:
    """Opens the shards of ``data.train``.

    Args:
      data: ``train`` names one directory or several; ``shared_speakers`` and ``original_speed_only`` say how they are
        read, and ``corpus_weights`` must fit.
      fbank: the features that they must have; None: only the same features in all.

    Raises:
      UserError: none are named, they are missing, damaged or have other features, or they do not fit together.
    """
    directories = training_directories(data)
    if not directories:
        raise UserError("data.train is not set: give the training shards, data.train=DIR (see mqmha prep --help).")
    if data.corpus_weights and len(data.corpus_weights) != len(directories):
        noun = "directory" if len(directories) == 1 else "directories"
        raise UserError(
            f"data.corpus_weights has {count_noun(len(data.corpus_weights), 'value')}, and data.train "
            f"{len(directories)} {noun} ({', '.join(directories)}). Give a weight for each directory, in their order."
        )
    parts = [open_shards(path, original_speed_only=data.original_speed_only) for path in directories]
    for path, part in zip(directories, parts, strict=True):
        require_same_fbank(fbank or parts[0].spec, part.spec, f"The training shards in {path}")
    return parts[0] if len(parts) == 1 else JoinedShards(parts, join_speakers=data.shared_speakers == "join")


def training_directories(data: DataConfig) -> tuple[str, ...]:
    """The directories that ``data.train`` names."""
    if isinstance(data.train, str):
        return (data.train,) if data.train else ()
    return data.train


def find_training_shards(data: DataConfig) -> TrainingShards | None:
    """Opens the shards of ``data.train`` if all of its directories are on this machine; None if not.

    Raises:
      UserError: as ``open_training_shards``.
    """
    directories = training_directories(data)
    return (
        open_training_shards(data) if directories and all(epath.Path(path).exists() for path in directories) else None
    )


def _check_speakers(parts: Sequence[FbankShards], join_speakers: bool) -> None:
    holder: dict[str, FbankShards] = {}
    for part in parts:
        shared = sorted(holder.keys() & set(part.speakers))
        if shared and not join_speakers:
            raise UserError(
                f"{holder[shared[0]].directory} and {part.directory} share {count_noun(len(shared), 'speaker')}, e.g. "
                f"{shared[0]!r}. If equal names are the same people, set data.shared_speakers=join; if not, rename the "
                "speakers of one of the two and prepare it again."
            )
        if shared:
            _refuse_shared_utterances(part, list(dict.fromkeys(holder.values())), shared)
        holder |= {name: part for name in part.speakers if name not in holder}


def _refuse_shared_utterances(part: FbankShards, others: Sequence[FbankShards], speakers: Sequence[str]) -> None:
    """Two directories may hold the same recordings, which would then count twice."""
    ours = _utterances_of(part, speakers)
    for other in others:
        if twice := sorted(ours & _utterances_of(other, speakers)):
            shared = count_noun(len(twice), "utterance")
            raise UserError(
                f"{other.directory} and {part.directory} share {shared}, e.g. {twice[0]!r}. "
                "Leave one of the two directories out of data.train; data.corpus_weights draws a corpus more often."
            )


def _utterances_of(part: FbankShards, speakers: Sequence[str]) -> set[str]:
    wanted = np.isin(part.speakers, list(speakers))
    return {part.utterance(int(index)) for index in np.flatnonzero(wanted[part.speaker])}
