"""How often speakers and utterances are drawn, against counts from the definition."""

import collections
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqmha_jax.config import DataConfig
from mqmha_jax.data.joined_shards import JoinedShards
from mqmha_jax.data.sampling import draw_utterances, speaker_exponent
from mqmha_jax.data.speaker_visits import SpeakerVisits

CROP = 100


def corpora(*counts: list[int], num_frames: list[int] | None = None) -> JoinedShards:
    """What sampling needs of shards, without files: utterances per speaker of each corpus, and lengths."""
    shards = JoinedShards.__new__(JoinedShards)
    speakers = [count for own in counts for count in own]
    shards.speakers = tuple(f"s{number}" for number in range(len(speakers)))
    shards.speaker = np.repeat(np.arange(len(speakers)), speakers).astype(np.int32)
    shards.num_frames = np.array(num_frames or [CROP] * len(shards.speaker), np.int32)
    shards.corpus = np.repeat(np.arange(len(counts)), [sum(own) for own in counts]).astype(np.int32)
    return shards


def shared(*counts: list[int]) -> JoinedShards:
    """The same speakers in every corpus."""
    shards = corpora(*counts)
    shards.speakers = shards.speakers[: len(counts[0])]
    shards.speaker %= len(shards.speakers)
    return shards


def draw(shards: JoinedShards, number: int, *, seed: int = 0, **options: Any) -> list[int]:
    sequence = draw_utterances(shards, DataConfig(**({"batch_size": 2, "crop_frames": CROP} | options)), seed)
    return [int(sequence[position]) for position in range(number)]


def shares(shards: JoinedShards, data: DataConfig) -> dict[int, float]:
    """How often each utterance is drawn by the definition, utterance by utterance; slow and obvious."""
    size: dict[int, float] = collections.defaultdict(float)
    draws = {}
    for utterance, (speaker, frames) in enumerate(zip(shards.speaker, shards.num_frames, strict=True)):
        draws[utterance] = max(1, round(frames / data.crop_frames)) if data.sampling == "duration" else 1
        size[speaker] += draws[utterance]
    share = {}
    for utterance, speaker in enumerate(shards.speaker):
        weight = data.corpus_weights[shards.corpus[utterance]] if data.corpus_weights else 1.0
        share[utterance] = weight * size[speaker] ** speaker_exponent(data) * draws[utterance] / size[speaker]
    total = sum(share.values())
    return {utterance: value / total for utterance, value in share.items()}


UNEVEN = corpora([2, 2, 3], num_frames=[50, 800, 100, 200, 100, 300, 400])


@pytest.mark.parametrize(
    ("shards", "options"),
    [
        (corpora([1, 4, 9, 16]), {"speaker_exponent": 0.5}),
        (UNEVEN, {"sampling": "duration", "speaker_exponent": 0.0}),
        (corpora([1, 4, 9, 16]), {"sampling": "speaker"}),
        (
            corpora([2, 2, 3], num_frames=[50, 800, 100, 200, 100, 300, 400]),
            {"sampling": "duration", "speaker_exponent": 0.7},
        ),
        (corpora([5] * 12 + [30]), {"speaker_exponent": 0.3, "batch_size": 4, "utterances_per_speaker": 2}),
        (corpora([3, 6], [2, 9]), {"corpus_weights": (1.0, 3.0), "speaker_exponent": 0.5}),
        (corpora([3, 6], [2, 9]), {"corpus_weights": (2.0, 0.5)}),
        (shared([3, 6], [2, 9]), {"corpus_weights": (1.0, 3.0)}),
        (shared([3, 6], [2, 0]), {"corpus_weights": (4.0, 0.5), "speaker_exponent": 0.5}),
    ],
)
def test_utterances_are_drawn_as_often_as_the_definition_says(shards: JoinedShards, options: dict[str, Any]) -> None:
    number = 3_000
    drawn = collections.Counter(draw(shards, number, **options))
    expected = shares(shards, DataConfig(**({"batch_size": 2, "crop_frames": CROP} | options)))
    for utterance, share in expected.items():
        # Draws are spread more evenly than independent ones, whose standard deviation this is.
        assert abs(drawn[utterance] - number * share) < 4 * np.sqrt(number * share), utterance


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=14),
    speakers_per_batch=st.integers(1, 6),
    utterances_per_speaker=st.integers(1, 3),
    round_number=st.integers(0, 1000),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_round_visits_speakers_by_their_shares_and_a_batch_repeats_none_that_fits(
    weights: list[float], speakers_per_batch: int, utterances_per_speaker: int, round_number: int, seed: int
) -> None:
    counts = np.arange(len(weights)) % 4 + 1
    speaker = np.repeat(np.arange(len(weights)), counts).astype(np.int32)
    sequence = SpeakerVisits(
        np.arange(len(speaker), dtype=np.int32),
        speaker,
        np.array(weights),
        speakers_per_batch=speakers_per_batch,
        utterances_per_speaker=utterances_per_speaker,
        seed=seed,
    )
    batches = max(1, len(weights) // speakers_per_batch)
    visits = batches * speakers_per_batch
    first = round_number * visits * utterances_per_speaker
    drawn = np.array([sequence[first + i] for i in range(visits * utterances_per_speaker)])
    visited = speaker[drawn].reshape(batches, speakers_per_batch, utterances_per_speaker)
    assert (visited == visited[..., :1]).all(), "a group is one speaker's"
    share = np.array(weights) / np.sum(weights)
    number = np.bincount(visited[..., 0].ravel(), minlength=len(weights))
    assert (np.abs(number - visits * share) < 1 + 1e-6).all()
    for batch in visited[..., 0]:
        twice = np.flatnonzero(np.bincount(batch, minlength=len(weights)) > 1)
        assert (share[twice] > 1 / speakers_per_batch - 1e-9).all()
    for group, one in zip(drawn.reshape(-1, utterances_per_speaker), visited[..., 0].ravel(), strict=True):
        assert len(set(group)) == min(utterances_per_speaker, counts[one])


def test_an_exponent_of_one_is_the_default_sequence() -> None:
    shards = corpora([1, 4, 9])
    for sampling in ("utterance", "duration"):
        assert draw(shards, 50, sampling=sampling) == draw(shards, 50, sampling=sampling, speaker_exponent=1.0)
    assert draw(shards, 50, sampling="speaker") == draw(shards, 50, speaker_exponent=0.0)


@settings(max_examples=20, deadline=None)
@given(positions=st.lists(st.integers(0, 10**12), min_size=1, max_size=6), exponent=st.floats(0, 2))
def test_a_sample_depends_on_seed_and_position_only(positions: list[int], exponent: float) -> None:
    """Whatever was read before, and also after the sequence travelled to a worker process."""
    data = DataConfig(batch_size=4, speaker_exponent=exponent, utterances_per_speaker=2)
    shards: JoinedShards = corpora([1, 4, 9, 2, 2, 7])
    once = draw_utterances(shards, data, 5)
    other = draw_utterances(shards, data, 5)
    drawn = [once[position] for position in positions]
    travelled = pickle.loads(pickle.dumps(once))
    assert [other[position] for position in reversed(positions)] == drawn[::-1]
    assert [travelled[position] for position in positions] == drawn


def test_speakers_meet_different_speakers_in_every_round() -> None:
    shards = corpora([3] * 40)
    speaker = shards.speaker[draw(shards, 40 * 25, batch_size=4, speaker_exponent=0.4)]
    met = {frozenset(batch) for batch in speaker.reshape(-1, 4)}
    assert len(met) > 240  # of 250 batches
