"""Audio is read ahead in threads, in order; of a long recording only the middle is embedded, and that is said."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.batch_plan import MAX_FRAMES
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings import recordings
from mqmha_jax.evaluation.embeddings.recordings import make_utterance, map_ahead, read_middle, read_utterance
from mqmha_jax.features.fbank import extract_fbank
from tests.support.voices import RATE_HZ, voice

SPEC = FbankSpec(num_mel_bins=8)


def test_results_come_in_order_and_only_a_few_items_are_taken_ahead():
    taken = []

    def items():
        for i in range(10):
            taken.append(i)
            yield i

    results = map_ahead(lambda i: (i, threading.current_thread().name), items(), num_threads=2)
    first = next(results)
    assert first[0] == 0
    assert len(taken) == 3
    everything = [first, *results]
    assert [i for i, _ in everything] == list(range(10))
    assert all("MainThread" not in name for _, name in everything)


def test_what_a_thread_raises_arrives_at_its_place():
    def refuse_two(i: int) -> int:
        if i == 2:
            raise UserError("two")
        return i

    results = map_ahead(refuse_two, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(UserError, match="two"):
        next(results)


@pytest.mark.parametrize("snip_edges", [True, False])
def test_of_a_long_recording_the_middle_frames_are_made(snip_edges: bool):
    spec = FbankSpec(num_mel_bins=8, snip_edges=snip_edges)
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    whole = extract_fbank(waveform, spec)
    first = (len(whole) - 31) // 2
    np.testing.assert_array_equal(extract_fbank(waveform, spec, max_frames=31), whole[first : first + 31])
    np.testing.assert_array_equal(extract_fbank(waveform, spec, max_frames=1_000), whole)


def test_a_recording_longer_than_the_limit_is_named_with_what_is_embedded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recordings, "MAX_FRAMES", 6_000)
    utterance = make_utterance("long.wav", np.zeros(16_000 * 180, np.float32), SPEC)
    assert utterance.fbank.shape == (6_000, 8)
    assert utterance.num_frames == 17_998
    silent, long = utterance.warnings()
    assert "no speech, 180.0 s of silence" in silent
    assert long == "long.wav: lasts 3 min; only its middle 1 min are embedded."
    assert MAX_FRAMES == 12_000


def test_only_the_middle_of_a_long_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read in blocks, with the frames and the evidence of the whole waveform in memory."""
    monkeypatch.setattr(recordings, "MAX_FRAMES", 50)
    monkeypatch.setattr("mqmha_jax.features.sndfile_audio.BLOCK_SAMPLES", 3_000)
    waveform = np.concatenate([np.zeros(9_000, np.float32), voice(1.3, 120)])
    soundfile.write(tmp_path / "long.wav", waveform, RATE_HZ, subtype="FLOAT")
    expected, found = make_utterance("x", waveform, SPEC), read_utterance(tmp_path / "long.wav", SPEC)
    assert found.num_frames == expected.num_frames > 50 == len(found.fbank)
    np.testing.assert_allclose(found.fbank, expected.fbank, atol=1e-4)
    assert found.evidence == pytest.approx(expected.evidence)
    short = read_utterance(tmp_path / "long.wav", dataclasses.replace(SPEC, frame_shift_ms=100.0))
    assert len(short.fbank) == short.num_frames


def test_only_the_middle_of_a_long_file_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recordings, "MAX_FRAMES", 50)
    waveform = np.random.default_rng(0).normal(0, 0.1, 3 * RATE_HZ).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", waveform, RATE_HZ, subtype="FLOAT")
    middle = read_middle(tmp_path / "a.wav", SPEC)
    assert middle.num_samples == 3 * RATE_HZ
    start = round(1.24 * RATE_HZ)  # 124 of the 298 frames lie before the middle 50
    length = round(0.525 * RATE_HZ)  # 50 shifts of 10 ms, and a window
    np.testing.assert_array_equal(middle.waveform, waveform[start : start + length])
    monkeypatch.setattr(recordings, "MAX_FRAMES", 1_000)
    np.testing.assert_array_equal(read_middle(tmp_path / "a.wav", SPEC).waveform, waveform)
