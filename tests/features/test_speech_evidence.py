"""The measure counts speech in recordings at any level and rate, and none in silence, hum and noise."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from mqmha_jax.features.speech_evidence import MIN_SPEECH_S, SpeechEvidence, SpeechMeter, measure_speech

RATE = 16_000


def syllables(seconds: float, *, seed: int = 0, pitch_hz: int = 120) -> np.ndarray:
    """A buzz that swells and fades three times a second, over a little noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch_hz * k * t) / k for k in range(1, 1 + 1_440 // pitch_hz))
    swell = np.maximum(0, np.sin(2 * np.pi * 3 * t))
    return (0.1 * buzz * swell + 1e-3 * np.random.default_rng(seed).normal(size=len(t))).astype(np.float32)


def coloured_noise(exponent: float, num_samples: int = 5 * RATE) -> np.ndarray:
    """Makes noise; its amplitude falls with the frequency to the power of ``exponent``."""
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=num_samples))
    noise = np.fft.irfft(spectrum / np.maximum(1, np.arange(len(spectrum))) ** exponent, num_samples)
    return (0.1 * noise / noise.std()).astype(np.float32)


def hum(*hz: int) -> np.ndarray:
    return sum(0.05 * np.sin(2 * np.pi * f * np.arange(3 * RATE) / RATE) for f in hz).astype(np.float32)


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(RATE, np.float32),
        np.full(RATE, 0.3, np.float32),
        np.round(0.7 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32) / 32_768,
        coloured_noise(0),
        coloured_noise(0.5),
        coloured_noise(1),
        hum(100),
        hum(50, 100, 150),
        syllables(0.03),
        syllables(3, pitch_hz=700),
        np.zeros(1, np.float32),
    ],
    ids=["zeros", "offset", "last bit", "white", "pink", "brown", "hum", "mains", "30 ms", "bird", "one sample"],
)
def test_no_speech(waveform: np.ndarray) -> None:
    evidence = measure_speech(waveform, RATE)
    assert evidence.speech_s == 0
    assert evidence.duration_s == len(waveform) / RATE
    assert str(evidence.shortfall()).startswith("no speech")


def test_speech_between_silences_is_counted() -> None:
    """Two seconds between silences; the swells' gaps are loud enough or not, so the count is within a third."""
    waveform = np.concatenate([np.zeros(3 * RATE, np.float32), syllables(2), np.zeros(RATE, np.float32)])
    evidence = measure_speech(waveform, RATE)
    assert evidence.duration_s == 6
    assert 1.0 < evidence.speech_s <= 2.0
    assert evidence.shortfall() is None
    assert evidence.shortfall(5.0) == f"{evidence.speech_s:.1f} s of speech"


def test_too_little_speech_never_reads_as_enough() -> None:
    evidence = SpeechEvidence(duration_s=2.0, speech_s=0.489, level_dbfs=-20.0, clipped_share=0.0)
    assert evidence.shortfall(0.5) == "0.48 s of speech"
    assert evidence.shortfall(0.9) == "0.5 s of speech"


def test_the_level_is_that_of_the_speech() -> None:
    waveform = np.concatenate([syllables(2), np.zeros(8 * RATE, np.float32)])
    louder = measure_speech(2 * waveform, RATE).level_dbfs - measure_speech(waveform, RATE).level_dbfs
    assert louder == pytest.approx(20 * np.log10(2), abs=0.05)
    assert measure_speech(waveform, RATE).level_dbfs == pytest.approx(
        measure_speech(syllables(2), RATE).level_dbfs, abs=1
    )
    assert measure_speech(np.zeros(RATE, np.float32), RATE).level_dbfs == -200


def test_clipping_is_counted_and_a_concern() -> None:
    clipped = np.clip(40 * syllables(2), -1, 1)
    share = measure_speech(clipped, RATE).clipped_share
    assert share == pytest.approx(np.mean(np.abs(clipped) == 1), abs=1e-3)
    assert share > 0.1
    assert measure_speech(clipped, RATE).concerns() == [f"{share:.0%} of the samples are clipped"]
    assert measure_speech(0.9 * clipped, RATE).clipped_share == 0
    assert measure_speech(syllables(2), RATE).concerns() == []


def test_all_concerns_are_named() -> None:
    evidence = SpeechEvidence(duration_s=2.0, speech_s=0.4, level_dbfs=-30.0, clipped_share=0.05)
    assert evidence.concerns() == ["0.4 s of speech", "5% of the samples are clipped"]
    assert evidence._replace(speech_s=MIN_SPEECH_S).concerns() == ["5% of the samples are clipped"]
    assert evidence._replace(speech_s=0.0).shortfall() == "no speech in 2.0 s of sound"
    assert evidence._replace(speech_s=0.0, level_dbfs=-95.0).shortfall() == "no speech, 2.0 s of silence"


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = np.concatenate([syllables(2), coloured_noise(0.5, RATE), syllables(1, seed=3)])
    whole = measure_speech(waveform, RATE)
    monkeypatch.setattr("mqmha_jax.features.speech_evidence._FRAMES_AT_ONCE", 7)
    assert measure_speech(waveform, RATE) == pytest.approx(whole, rel=1e-6)
    meter = SpeechMeter(RATE)
    for block in np.split(waveform, [0, 1, 700, 20_000, len(waveform) - 5]):
        meter.add(block)
    assert meter.evidence() == pytest.approx(whole, rel=1e-6)
    assert meter.find_speech().mean() * whole.duration_s == pytest.approx(whole.speech_s)


def _recordings(speech_dir: Path, pattern: str, count: int) -> list[np.ndarray]:
    paths = sorted(speech_dir.glob(pattern))
    assert len(paths) >= count, f"{speech_dir}/{pattern} has {len(paths)} recordings; this test needs {count}"
    return [soundfile.read(path, dtype="float32")[0] for path in paths[:: max(1, len(paths) // count)][:count]]


@pytest.mark.parametrize(
    ("corpus", "least_s"), [("libri252", 0.7), ("cves304", 1.5), ("wuw2", 0.3), ("dsp34", 0.2), ("arabic_sc30", 0.2)]
)
def test_real_speech(speech_dir: Path, corpus: str, least_s: float) -> None:
    """Sentences have plenty; isolated words, 1 or 2 s with their pauses, at least most of a syllable."""
    for waveform in _recordings(speech_dir, f"audio/{corpus}/**/*.opus", 8):
        evidence = measure_speech(waveform, RATE)
        assert least_s <= evidence.speech_s <= evidence.duration_s
        quiet = measure_speech(0.1 * waveform, RATE)
        assert quiet.speech_s == pytest.approx(evidence.speech_s, rel=0.1, abs=0.1)
        telephone = measure_speech(soxr.resample(waveform, RATE, 8_000), 8_000)
        assert telephone.speech_s == pytest.approx(evidence.speech_s, rel=0.3, abs=0.35)


def test_real_speech_in_white_noise(speech_dir: Path) -> None:
    for waveform in _recordings(speech_dir, "audio/libri252/**/*.opus", 8):
        noise = np.random.default_rng(0).normal(size=len(waveform)).astype(np.float32) * waveform.std()
        clean, at_10_db = (measure_speech(x, RATE).speech_s for x in (waveform, waveform + 10**-0.5 * noise))
        assert at_10_db > clean / 2
        assert measure_speech(noise, RATE).speech_s == 0


@pytest.mark.parametrize("kind", ["rain", "sea_waves", "helicopter"])
def test_real_noise(speech_dir: Path, kind: str) -> None:
    without = [
        measure_speech(x, RATE).shortfall() is not None for x in _recordings(speech_dir, f"noise/{kind}/*.opus", 20)
    ]
    assert np.mean(without) >= 0.9
