"""Speed, noise, reverberation and telephone, each correct to the decibel and reproducible."""

import numpy as np
import pytest

from mqmha_jax.augment.waveform import (
    add_noise,
    add_noise_sequence,
    add_noises,
    change_speed,
    reverberate,
    telephone_band,
)
from mqmha_jax.errors import UserError

RATE = 16_000


def tone(hz: float, num_samples: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(num_samples) / RATE)).astype(np.float32)


def white(num_samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples, np.float32)


def peak_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 8 * RATE))
    return spectrum.argmax() / 8


def power_db(waveform: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_moves_duration_and_pitch(factor: float) -> None:
    faster = change_speed(tone(500), factor)
    assert len(faster) == pytest.approx(RATE / factor, abs=1)
    assert peak_hz(faster) == pytest.approx(500 * factor, abs=1)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_speed_must_be_positive(factor: float) -> None:
    with pytest.raises(UserError, match=r"speed factor is .*must be greater than 0 \(usual: 0\.9 and 1\.1\)"):
        change_speed(tone(500), factor)


@pytest.mark.parametrize("noise_samples", [700, RATE, 5 * RATE])
@pytest.mark.parametrize("snr_db", [-5.0, 20.0])
def test_noise_has_the_ratio_asked_for(noise_samples: int, snr_db: float) -> None:
    speech = tone(500)
    noisy = add_noise(speech, white(noise_samples), snr_db, np.random.default_rng(1))
    assert len(noisy) == len(speech)
    assert power_db(speech) - power_db(noisy - speech) == pytest.approx(snr_db, abs=0.01)


def test_noise_is_cut_at_a_random_place_of_the_generator() -> None:
    speech, noise = tone(500), white(5 * RATE)
    first, again, other = (add_noise(speech, noise, 0.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    # the piece is a whole one of the noise: it matches the noise exactly somewhere
    added = first - speech
    at = np.correlate(noise, added[:2_000], "valid").argmax()
    piece = noise[at : at + RATE]
    assert np.corrcoef(piece, added)[0, 1] > 0.999


def test_short_noise_is_repeated() -> None:
    added = add_noise(tone(500), white(700), 0.0, np.random.default_rng(1)) - tone(500)
    np.testing.assert_allclose(added[700:], added[:-700], atol=1e-6)


def test_silence_has_no_ratio() -> None:
    speech, silence = tone(500), np.zeros(RATE, np.float32)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(add_noise(speech, silence, 10.0, rng), speech)
    np.testing.assert_array_equal(add_noise(silence, speech, 10.0, rng), silence)
    with pytest.raises(UserError, match="noise holds no samples"):
        add_noise(speech, silence[:0], 10.0, rng)


def test_reverberation_is_convolution_aligned_to_the_direct_path() -> None:
    speech = white(400)
    response = np.zeros(90)
    response[[30, 50, 89]] = 1.0, -0.4, 0.2
    expected = np.zeros(400)
    for delay, gain in ((0, 1.0), (20, -0.4), (59, 0.2)):
        expected[delay:] += gain * speech[: 400 - delay]
    expected *= np.sqrt(np.sum(speech**2) / np.sum(expected**2))
    np.testing.assert_allclose(reverberate(speech, response), expected, atol=1e-6)


def test_reverberation_refuses_an_empty_room_and_keeps_silence() -> None:
    np.testing.assert_array_equal(reverberate(np.zeros(50, np.float32), np.ones(3)), np.zeros(50))
    for response in (np.zeros(0), np.zeros(9)):
        with pytest.raises(UserError, match="room response is empty or all zeros"):
            reverberate(white(50), response)


@pytest.mark.parametrize("mu_law", [False, True])
def test_telephone_keeps_the_middle_and_drops_the_rest(mu_law: bool) -> None:
    def loss_db(hz: float) -> float:
        heard = telephone_band(tone(hz), np.random.default_rng(0), mu_law=mu_law)
        return power_db(tone(hz)) - power_db(heard)

    assert loss_db(1_000) == pytest.approx(0, abs=0.5)
    assert loss_db(50) > 20
    assert loss_db(5_000) > 30


def test_telephone_noise_follows_mu_law() -> None:
    clean, digital = (telephone_band(tone(1_000), np.random.default_rng(0), mu_law=law) for law in (False, True))
    # G.711 reaches about 38 dB over a wide range of levels
    assert 30 < power_db(clean) - power_db(digital - clean) < 45


def test_telephone_keeps_length_and_follows_the_generator() -> None:
    speech = white(12_345)
    first, again, other = (telephone_band(speech, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert len(first) == len(speech)
    np.testing.assert_array_equal(first, again)
    assert power_db(first - other) > power_db(first) - 40
    np.testing.assert_array_equal(telephone_band(np.zeros(999, np.float32), np.random.default_rng(0)), np.zeros(999))


def test_each_of_several_noises_has_its_ratio_to_the_speech() -> None:
    speech = tone(500)
    noises = [(tone(1_000), 10.0), (tone(2_000), 20.0)]
    added = add_noises(speech, noises, np.random.default_rng(0)) - speech
    power = np.abs(np.fft.rfft(added)) ** 2
    for hz, snr_db in ((1_000, 10.0), (2_000, 20.0)):  # one bin is one hertz
        own_db = 10 * np.log10(2 * power[hz] / RATE**2)
        assert power_db(speech) - own_db == pytest.approx(snr_db, abs=0.1)
    np.testing.assert_array_equal(add_noises(speech, [], np.random.default_rng(0)), speech)


def test_noises_in_sequence_have_pauses_and_a_ratio_each() -> None:
    speech = tone(500, 2_000)
    clips = iter([(white(700, 1), 0.0), (white(400, 2), 10.0), (white(5_000, 3), 5.0)])
    added = add_noise_sequence(speech, lambda: next(clips), np.random.default_rng(0), gap_samples=100) - speech
    places = [(slice(0, 700), 0.0), (slice(800, 1_200), 10.0), (slice(1_300, 2_000), 5.0)]
    for place, snr_db in places:
        assert power_db(speech) - power_db(added[place]) == pytest.approx(snr_db, abs=0.01)
    np.testing.assert_array_equal(added[700:800], 0)
    np.testing.assert_array_equal(added[1_200:1_300], 0)
    assert next(clips, None) is None
    assert np.corrcoef(added[:700], white(700, 1))[0, 1] > 0.999  # a whole clip is not turned around


def test_a_sequence_that_starts_in_its_last_clip_asks_for_no_other() -> None:
    calls = []

    def next_noise() -> tuple[np.ndarray, float]:
        calls.append(None)
        return white(1_000), 5.0

    add_noise_sequence(tone(500, 1_000), next_noise, np.random.default_rng(0), gap_samples=10)
    assert len(calls) == 1
