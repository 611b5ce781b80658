"""The measures of each waveform, written to shards and read back."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.build_shards import build_shards
from data_prep.measures import waveform_measures
from data_prep.versions import VersionPlan
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_file import UtteranceFbank
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import write_shards
from tests.support.prep_jobs import SPEC, corpus, noise

RATE = 16_000


def speech(snr_db: float, seed: int = 0) -> np.ndarray:
    """Bursts of half a second of loud noise, half a second apart, in soft noise."""
    rng = np.random.default_rng(seed)
    bursts = np.repeat(np.arange(8) % 2, RATE // 2) * rng.standard_normal(4 * RATE)
    return (0.05 * (bursts + 10 ** (-snr_db / 20) * rng.standard_normal(4 * RATE))).astype(np.float32)


@pytest.mark.parametrize("snr_db", [5, 10, 20, 30])
def test_the_blind_ratio_is_near_the_true_one(snr_db: float) -> None:
    assert waveform_measures(speech(snr_db), RATE)["snr_db"] == pytest.approx(snr_db, abs=1.5)


def test_length_power_clipping_and_silence_match_the_signal() -> None:
    waveform = np.concatenate([0.5 * np.sign(speech(20)[: 3 * RATE]), np.zeros(RATE, np.float32)])
    waveform[:100], waveform[100:200] = 1.0, -1.2
    measures = waveform_measures(waveform, RATE)
    assert measures["seconds"] == 4.0
    assert measures["power"] == pytest.approx((0.25 * (3 * RATE - 200) + 100 + 144) / (4 * RATE))
    assert measures["clipped_share"] == 200 / (4 * RATE)
    assert measures["silence_share"] == pytest.approx(0.25)


def test_silence_and_single_samples_have_finite_measures() -> None:
    for waveform in (np.zeros(RATE, np.float32), np.ones(1, np.float32), np.zeros(1, np.float32)):
        measures = waveform_measures(waveform, RATE)
        assert all(np.isfinite(value) for value in measures.values())
    assert waveform_measures(np.zeros(RATE, np.float32), RATE)["silence_share"] == 1.0
    quiet_gaps = speech(200) * (np.arange(4 * RATE) % RATE > RATE // 2)
    assert waveform_measures(quiet_gaps, RATE)["snr_db"] == 100.0


def test_measures_read_back_and_are_missing_if_none_were_given(tmp_path: Path) -> None:
    frames = np.zeros((5, 4), np.float16)
    rows = [{}, {"snr_db": 7.5, "power": 0.25}, {"power": 0.5}]
    utterances = [UtteranceFbank(str(i), "s", frames, {}, row) for i, row in enumerate(rows)]
    write_shards(tmp_path / "out", utterances, spec=FbankSpec(num_mel_bins=4), provenance={}, records_per_shard=1)
    measures = open_shards(tmp_path / "out").measures
    np.testing.assert_array_equal(measures["snr_db"], np.float32([np.nan, 7.5, np.nan]))
    np.testing.assert_array_equal(measures["power"], np.float32([np.nan, 0.25, 0.5]))


def test_every_version_is_measured_as_it_is_written(tmp_path: Path) -> None:
    plan = VersionPlan(speeds=(1.0, 2.0))
    build_shards(
        corpus("noise", 2),
        tmp_path / "out",
        spec=SPEC,
        plan=plan,
        provenance={},
        num_workers=0,
        max_rejected=0,
        progress=False,
    )
    for original_speed_only in (False, True):
        shards = open_shards(tmp_path / "out", original_speed_only=original_speed_only)
        for index, utterance in enumerate(shards.utterances):
            seconds = len(noise(int(utterance[1]), RATE)) / RATE / float(shards.attributes["speed"][index])
            assert shards.measures["seconds"][index] == pytest.approx(seconds, abs=1e-3)
