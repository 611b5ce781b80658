"""The synthetic voices are reproducible in any order and speech-like; speakers differ, but sessions hide it."""

import numpy as np
import pytest

from data_prep.corpora.synthetic import SyntheticUtterance, synthesise, synthetic_voices
from data_prep.corpora.voice_phones import CONSONANTS, PAUSE, VOWELS
from data_prep.corpora.voice_plan import Tracks, plan_utterance
from data_prep.corpora.voice_session import draw_session, in_mood
from data_prep.corpora.voice_source import SAMPLE_RATE_HZ, render
from data_prep.corpora.voice_traits import Voice, draw_voice
from mqmha_jax.config import FbankSpec
from mqmha_jax.features.fbank import extract_fbank

SEED = 5
SECONDS = (1.5, 2.0)


@pytest.fixture(scope="module")
def corpus() -> list[SyntheticUtterance]:
    return list(
        synthetic_voices(num_speakers=16, sessions_per_speaker=3, utterances_per_session=2, seconds=SECONDS, seed=SEED)
    )


def steady(voice: Voice, formants_hz: tuple[float, ...], f0_hz: float, *, voicing: float = 1.0) -> Tracks:
    """One second of one unchanging vowel."""
    points = np.ones(200)
    formants = np.array(formants_hz)[None] * points[:, None]
    return Tracks(f0_hz * points, formants, voicing * points, 0 * points, 0 * points, 4_000 * points, 2_000 * points)


def test_the_corpus_has_the_promised_shape(corpus: list[SyntheticUtterance]) -> None:
    assert len(corpus) == 96
    assert len({item.utterance for item in corpus}) == 96
    assert len({item.session for item in corpus}) == 48
    assert len({item.speaker for item in corpus}) == 16
    for item in corpus:
        assert item.sample_rate_hz == 16_000
        assert item.waveform.dtype == np.float32
        assert SECONDS[0] <= len(item.waveform) / 16_000 + 0.01
        assert len(item.waveform) / 16_000 <= SECONDS[1] + 0.01
        assert 0.01 < np.abs(item.waveform).max() < 1.0
        assert item.utterance.startswith(item.session)
        assert item.session.startswith(item.speaker)


def test_an_utterance_depends_only_on_its_indices_and_the_seed(corpus: list[SyntheticUtterance]) -> None:
    alone = synthesise(2, 1, 1, seed=SEED, seconds=SECONDS)
    same = corpus[2 * 6 + 1 * 2 + 1]
    assert alone.utterance == same.utterance
    np.testing.assert_array_equal(alone.waveform, same.waveform)
    later = next(
        synthetic_voices(
            num_speakers=1,
            sessions_per_speaker=1,
            utterances_per_session=1,
            seconds=SECONDS,
            seed=SEED,
            first_speaker=2,
        )
    )
    np.testing.assert_array_equal(later.waveform, corpus[2 * 6].waveform)
    other = synthesise(2, 1, 1, seed=SEED + 1, seconds=SECONDS)
    assert len(other.waveform) != len(same.waveform) or np.abs(other.waveform - same.waveform).max() > 1e-3


def test_no_two_utterances_are_alike(corpus: list[SyntheticUtterance]) -> None:
    beginnings = np.stack([item.waveform[8_000:16_000] for item in corpus])
    correlation = np.abs(np.corrcoef(beginnings) - np.eye(len(corpus)))
    assert correlation.max() < 0.5


def test_the_shortest_utterances_hold_sound() -> None:
    for speaker in range(40):
        waveform = synthesise(speaker, 0, 0, seed=SEED, seconds=(0.5, 0.5)).waveform
        assert len(waveform) == 8_000
        assert np.isfinite(waveform).all()
        loudness = np.sqrt(np.mean(waveform.reshape(50, 160) ** 2, axis=1))
        assert loudness.max() > 3 * loudness.min()


@pytest.mark.parametrize("seconds", [(0.1, 2.0), (3.0, 2.0)])
def test_refuses_impossible_durations(seconds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"two durations in rising order, at least 0\.5 s"):
        synthesise(0, 0, 0, seed=0, seconds=seconds)


def test_the_pulses_have_the_pitch_and_the_tract_has_the_formants() -> None:
    voice = draw_voice(np.random.default_rng(0))._replace(jitter=0.0, shimmer=0.0, breathiness_db=-90.0)
    formants = (700.0, 1_200.0, 2_500.0, 3_500.0, 4_500.0)
    waveform = render(voice, steady(voice, formants, 100.0), np.random.default_rng(0))
    assert len(waveform) == SAMPLE_RATE_HZ
    spectrum = np.abs(np.fft.rfft(waveform[2_000:-2_000] * np.hanning(12_000), 16_000))
    harmonics = spectrum[100:5_000:100]
    assert spectrum[50:5_000:100].max() < 0.02 * harmonics.max()
    for hz in formants[:3]:
        # the strongest harmonic of the neighbourhood is at the formant
        near = np.arange(hz - 300, hz + 301, 100).astype(int)
        assert abs(near[spectrum[near].argmax()] - hz) <= 100


def test_a_longer_tract_lowers_every_formant() -> None:
    voice = draw_voice(np.random.default_rng(0))
    plans = [
        plan_utterance(voice._replace(tract_ratio=ratio), 1.0, np.random.default_rng(1)).formants_hz
        for ratio in (1.0, 1.1)
    ]
    np.testing.assert_allclose(plans[1] / plans[0], 1.1)


def test_plans_hold_voiced_unvoiced_and_silent_stretches() -> None:
    tracks = plan_utterance(draw_voice(np.random.default_rng(0)), 8.0, np.random.default_rng(0))
    sounding = tracks.voicing + tracks.aspiration + tracks.frication
    assert 0.4 < np.mean(tracks.voicing > 0.2) < 0.85
    assert 0.05 < np.mean((tracks.frication > 0.05) & (tracks.voicing < 0.05)) < 0.4
    assert 0.02 < np.mean(sounding < 0.01) < 0.4
    assert np.ptp(12 * np.log2(tracks.f0_hz)) > 2
    assert PAUSE.voicing == 0
    assert len(VOWELS) >= 10
    assert len(CONSONANTS) >= 15


def equal_error_rate(vectors: np.ndarray, speakers: np.ndarray, sessions: np.ndarray) -> float:
    """EER of the cosine over all pairs of different sessions, in percent."""
    centred = vectors - vectors.mean(axis=0, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    enrol, test = np.triu_indices(len(vectors), 1)
    across = sessions[enrol] != sessions[test]
    enrol, test = enrol[across], test[across]
    target = (speakers[enrol] == speakers[test])[np.argsort(-np.sum(unit[enrol] * unit[test], axis=1))]
    misses = 1 - np.cumsum(target) / target.sum()
    false_alarms = np.cumsum(~target) / (~target).sum()
    return 100 * float(false_alarms[np.argmin(np.abs(misses - false_alarms))])


def test_statistics_of_the_spectrum_confuse_speakers_across_sessions(corpus: list[SyntheticUtterance]) -> None:
    frames = [extract_fbank(item.waveform, FbankSpec()) for item in corpus]
    statistics = np.stack([np.concatenate([fbank.mean(axis=0), fbank.std(axis=0)]) for fbank in frames])
    speakers, sessions = (np.array([getattr(item, name) for item in corpus]) for name in ("speaker", "session"))
    assert equal_error_rate(statistics, speakers, sessions) > 25


def test_pitch_and_formants_tell_speakers_apart() -> None:
    """Speakers can be learnt: the means of the tracks identify a speaker in any mood."""
    means, speakers = [], np.repeat(np.arange(30), 4)
    for index, speaker in enumerate(speakers):
        rng = np.random.default_rng(1_000 + index)
        voice = in_mood(draw_voice(np.random.default_rng(speaker)), draw_session(rng))
        tracks = plan_utterance(voice, 3.0, rng)
        voiced = tracks.voicing > 0.5
        means.append(np.log([tracks.f0_hz[voiced].mean(), *tracks.formants_hz[voiced].mean(axis=0)]))
    standardised = (np.array(means) - np.mean(means, axis=0, keepdims=True)) / np.std(means, axis=0, keepdims=True)
    assert equal_error_rate(standardised, speakers, np.arange(len(speakers))) < 20
