"""Chooses the utterance of each sample in the endless training sequence."""

from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Float64, Int32, Int64

from mqmha_jax.config import DataConfig
from mqmha_jax.data.joined_shards import JoinedShards, TrainingShards
from mqmha_jax.data.speaker_visits import SpeakerVisits
from mqmha_jax.errors import UserError


def draw_utterances(shards: TrainingShards, data: DataConfig, seed: int) -> grain.MapDataset:
    """Draws speakers in proportion to ``weight * size ** exponent``, and each speaker's utterances evenly.

    The size of a speaker is its number of utterances, or of crops with ``data.sampling="duration"``. The utterances of
    a speaker of several corpora are drawn in proportion to the weights of these, each corpus apart: unlike others, such
    a speaker may be in a batch once for each of its corpora, however rarely it is drawn. With an exponent of 1 and
    equal weights, every utterance is drawn once per epoch (once for each crop that it holds).

    Args:
      shards: N utterances.
      data: ``sampling``, ``speaker_exponent``, ``corpus_weights``, and the form of a batch.
      seed: seed of the order.

    Returns:
      An endless sequence of utterance indices with random access.
    """
    draws = np.ones(len(shards), np.int64)
    if data.sampling == "duration":
        draws = count_crops(shards.num_frames, data.crop_frames)
    exponent = speaker_exponent(data)
    if exponent == 1 and data.utterances_per_speaker == 1 and len(set(data.corpus_weights)) <= 1:
        return epochs_of_utterances(draws, seed)
    entries = np.repeat(np.arange(len(shards), dtype=np.int32), draws)
    groups = _group_utterances(shards, draws, data.corpus_weights, exponent)
    return grain.MapDataset.source(
        SpeakerVisits(
            entries,
            groups.of_utterance[entries],
            groups.weights,
            speakers_per_batch=data.batch_size // data.utterances_per_speaker,
            utterances_per_speaker=data.utterances_per_speaker,
            seed=seed,
        )
    )


def epochs_of_utterances(draws: Int64[np.ndarray, " N"], seed: int) -> grain.MapDataset:
    """Draws every utterance ``draws`` times per epoch, in an order that changes with the epoch.

    Returns:
      An endless sequence of utterance indices with random access.
    """
    if (draws == 1).all():
        return grain.MapDataset.range(len(draws)).shuffle(seed).repeat()
    utterances = np.repeat(np.arange(len(draws), dtype=np.int32), draws)
    return grain.MapDataset.source(utterances).shuffle(seed).repeat().map(int)


def count_crops(num_frames: np.ndarray, crop_frames: int) -> Int64[np.ndarray, " N"]:
    """Number of crops that each utterance holds, rounded, at least one."""
    return np.maximum(1, np.round(num_frames / crop_frames)).astype(np.int64)


def speaker_exponent(data: DataConfig) -> float:
    """The exponent of a configuration.

    Raises:
      UserError: ``data.sampling="speaker"``, which means an exponent of 0, meets another one.
    """
    if data.sampling != "speaker":
        return 1.0 if data.speaker_exponent is None else data.speaker_exponent
    if data.speaker_exponent:
        raise UserError(
            "data.sampling=speaker draws all speakers equally often, which is data.speaker_exponent=0. For "
            f"data.speaker_exponent={data.speaker_exponent:g}, choose what counts: data.sampling=utterance or duration."
        )
    return 0.0


class _Groups(NamedTuple):
    """What is drawn: speakers, or the part of each speaker in each corpus.

    Attributes:
      of_utterance: group of each utterance.
      weights: how often each group is drawn, relative to the others.
    """

    of_utterance: Int32[np.ndarray, " N"]
    weights: Float64[np.ndarray, " G"]


def _group_utterances(
    shards: TrainingShards, draws: Int64[np.ndarray, " N"], corpus_weights: tuple[float, ...], exponent: float
) -> _Groups:
    size = np.bincount(shards.speaker, draws, minlength=len(shards.speakers))
    weights = np.power(size, exponent, where=size > 0, out=np.zeros(len(size)))
    if not isinstance(shards, JoinedShards) or not corpus_weights:
        return _Groups(shards.speaker, weights)
    # A speaker of several corpora has a group in each, so that the weights also hold within the speaker.
    num_corpora = len(corpus_weights)
    group = (shards.speaker * num_corpora + shards.corpus).astype(np.int32)
    share = np.bincount(group, draws, minlength=len(size) * num_corpora) / np.repeat(np.maximum(size, 1), num_corpora)
    return _Groups(group, np.repeat(weights, num_corpora) * share * np.tile(corpus_weights, len(size)))
