"""Finds the size of the training corpus: from the user, or from the shards."""

from typing import NamedTuple

from mqmha_jax.config import DataConfig
from mqmha_jax.data.joined_shards import find_training_shards
from mqmha_jax.errors import UserError


class CorpusSize(NamedTuple):
    """Size of a training corpus.

    Attributes:
      num_speakers: C, classes of the head.
      utterances: N; None: unknown.
    """

    num_speakers: int
    utterances: int | None


def find_corpus_size(data: DataConfig, speakers: int | None, utterances: int | None) -> CorpusSize:
    """Returns the size that a plan is made for.

    Args:
      data: data of the experiment; its shards tell what the user does not.
      speakers: the user's number of speakers.
      utterances: the user's number of utterances.

    Raises:
      UserError: the number of speakers is unknown, or below two.
    """
    if speakers is not None and speakers < 2:
        raise UserError(f"--speakers={speakers}: a head needs at least two classes.")
    if (shards := find_training_shards(data)) is not None:
        return CorpusSize(speakers or len(shards.speakers), utterances or len(shards))
    if speakers is None:
        where = f"data.train={data.train} does not exist here" if data.train else "data.train is empty"
        raise UserError(
            f"The number of speakers is unknown: {where}. Give it as --speakers, e.g. --speakers 17982 "
            "(VoxCeleb2-dev at three speeds)."
        )
    return CorpusSize(speakers, utterances)
