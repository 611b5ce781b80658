"""Finds speakers and utterances that two sets share, before they make results look too good."""

from collections.abc import Iterable
from pathlib import Path

from mqmha_jax.data.shard_format import SPEED_MARK
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.leaks import shared_speakers, shared_utterances


def leaks(name: str, speakers: Iterable[str], utterances: Iterable[str], other: Path) -> list[str]:
    """What a set shares with another set on disk.

    Args:
      name: of the set.
      speakers: its speakers; a copy at another speed counts as the original speaker.
      utterances: its ids.
      other: shards, or the work directory of a run, which stores its speakers only.

    Returns:
      A sentence on shared speakers and one on shared ids, each only if there are any.

    Raises:
      UserError: ``other`` is neither of the two.
    """
    from mqmha_jax.runs.workdir import has_speakers, read_speakers  # here: imports JAX, which workers do not need

    originals = {speaker.split(SPEED_MARK)[0] for speaker in speakers}
    if has_speakers(other):
        return shared_speakers(name, originals, read_speakers(other), str(other))
    try:
        shards = open_shards(other)
    except UserError as error:
        raise UserError(f"{other} is neither shards nor the work directory of a run: {error}") from error
    return [
        *shared_speakers(name, originals, shards.speakers, str(other)),
        *shared_utterances(name, utterances, shards.utterances, str(other)),
    ]


def leaks_of_shards(train: Path, evaluation: Path) -> list[str]:
    """What two sets on disk share.

    Args:
      train: shards, or the work directory of a run.
      evaluation: shards.

    Raises:
      UserError: as ``leaks``.
    """
    shards = open_shards(evaluation)
    return leaks(str(evaluation), shards.speakers, shards.utterances, train)
