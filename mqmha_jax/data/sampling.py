"""Which utterance each sample of the endless training sequence is."""

import grain
import numpy as np
from jaxtyping import Float64, Int64

from mqmha_jax.config import DataConfig
from mqmha_jax.data.joined_shards import JoinedShards, TrainingShards
from mqmha_jax.data.speaker_visits import SpeakerVisits
from mqmha_jax.errors import UserError


def draw_utterances(shards: TrainingShards, data: DataConfig, seed: int) -> grain.MapDataset:
    """Draws speakers in proportion to ``weight * size ** exponent``, and each speaker's utterances evenly.

    The size of a speaker is its number of utterances, or of crops with ``data.sampling="duration"``. With an exponent
    of 1 and equal weights, every utterance is drawn once per epoch (once for each crop that it holds).

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
    return grain.MapDataset.source(
        SpeakerVisits(
            entries,
            shards.speaker[entries],
            _speaker_weights(shards, draws, data.corpus_weights, exponent),
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


def _speaker_weights(
    shards: TrainingShards, draws: Int64[np.ndarray, " N"], corpus_weights: tuple[float, ...], exponent: float
) -> Float64[np.ndarray, " C"]:
    """How often each class is drawn, relative to the others; a speaker of several corpora has their mean weight."""
    num_speakers = len(shards.speakers)
    size = np.bincount(shards.speaker, draws, minlength=num_speakers)
    weights = np.power(size, exponent, where=size > 0, out=np.zeros(num_speakers))
    if isinstance(shards, JoinedShards) and corpus_weights:
        of_utterance = np.array(corpus_weights)[shards.corpus]
        weights *= np.bincount(shards.speaker, draws * of_utterance, minlength=num_speakers) / np.maximum(size, 1)
    return weights
