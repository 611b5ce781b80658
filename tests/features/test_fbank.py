"""The filterbank against Kaldi's numbers, against a slow reference, and in the ways a corpus calls it."""

import inspect
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError
from mqmha_jax.features import fbank
from mqmha_jax.features.fbank import extract_fbank, log_mel_fbank, num_frames
from tests.support.paths import REFERENCE

jitted = jax.jit(log_mel_fbank, static_argnames="spec")
PAPER = FbankSpec(use_energy=True, low_hz=40.0, high_hz=-200.0, window="povey")
CENTRED = FbankSpec(snip_edges=False)


@pytest.fixture(scope="module")
def speechlike() -> np.ndarray:
    """1.3 s of pulses and noise with a quiet stretch. The length is not a multiple of the hop."""
    rng = np.random.default_rng(0)
    waveform = 0.01 * rng.standard_normal(20_817)
    waveform[::123] += 0.4
    waveform[9_000:12_000] *= 1e-3
    return waveform.astype(np.float32)


def slow_fbank(waveform: np.ndarray, spec: FbankSpec) -> np.ndarray:
    """Kaldi's definition, frame by frame and band by band in float64, without dither."""
    window = int(spec.sample_rate_hz * spec.frame_length_ms / 1000)
    hop = int(spec.sample_rate_hz * spec.frame_shift_ms / 1000)
    samples = waveform.astype(np.float64) * 32768
    if spec.snip_edges:
        starts = range(0, len(samples) - window + 1, hop)
    else:
        number = (len(samples) + hop // 2) // hop
        starts = [hop * frame + hop // 2 - window // 2 for frame in range(number)]
    size = 256
    while size < window:
        size *= 2
    phase = 2 * np.pi * np.arange(window) / (window - 1)
    shape = (0.5 - 0.5 * np.cos(phase)) ** 0.85 if spec.window == "povey" else 0.54 - 0.46 * np.cos(phase)

    def mel(hz: float) -> float:
        return 1127.0 * np.log(1 + hz / 700.0)

    high = spec.high_hz if spec.high_hz > 0 else spec.sample_rate_hz / 2 + spec.high_hz
    step = (mel(high) - mel(spec.low_hz)) / (spec.num_mel_bins + 1)
    rows = []
    for start in starts:
        frame = np.empty(window)
        for i in range(window):
            at = start + i
            while not 0 <= at < len(samples):
                at = -1 - at if at < 0 else 2 * len(samples) - 1 - at
            frame[i] = samples[at]
        frame -= frame.mean()
        energy = frame @ frame
        frame = frame - spec.preemphasis * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * shape, size)) ** 2
        bands = []
        for band in range(spec.num_mel_bins):
            left = mel(spec.low_hz) + band * step
            total = 0.0
            for k in range(size // 2):
                at = mel(k * spec.sample_rate_hz / size)
                if left < at < left + 2 * step:
                    total += power[k] * min((at - left) / step, (left + 2 * step - at) / step)
            bands.append(total)
        rows.append(([energy] if spec.use_energy else []) + bands)
    return np.log(np.maximum(np.array(rows), np.finfo(np.float32).eps))


def assert_equal_to_kaldi(actual: np.ndarray, expected: np.ndarray, *, has_silence: bool) -> None:
    assert actual.shape == expected.shape
    silent = np.all(expected < -15.9, axis=1)
    np.testing.assert_allclose(actual[~silent], expected[~silent], atol=2e-3)
    np.testing.assert_allclose(actual[silent], np.log(2.0**-23), atol=1e-4)
    assert silent.any() == has_silence


@pytest.mark.parametrize("number", range(5))
def test_equals_kaldi(number: int) -> None:
    reference = np.load(REFERENCE / "fbank.npz", allow_pickle=False)  # by make_fbank.py beside it
    spec = FbankSpec(**json.loads(str(reference["specs"]))[number])
    assert_equal_to_kaldi(extract_fbank(reference["wave"], spec), reference[f"fbank/{number}"], has_silence=True)


@pytest.mark.parametrize("number", range(5))
def test_equals_kaldi_on_speech(reference_dir: Path, number: int) -> None:
    reference = np.load(reference_dir / "fbank.npz", allow_pickle=False)
    config = json.loads(str(reference[f"fbank/{number}/config"]))
    same_name = ("window", "low_hz", "high_hz", "use_energy", "snip_edges", "preemphasis")
    spec = FbankSpec(num_mel_bins=config["num_bins"], **{name: config[name] for name in same_name})
    for name in ("speech", "noise", "quiet"):
        actual = extract_fbank(reference[f"wave/{name}"], spec)
        assert_equal_to_kaldi(actual, reference[f"fbank/{number}/{name}"], has_silence=name == "quiet")


@pytest.mark.parametrize(
    "spec",
    [
        PAPER,
        CENTRED,
        FbankSpec(sample_rate_hz=8_000, num_mel_bins=23, frame_length_ms=20.0, frame_shift_ms=7.5, snip_edges=False),
        FbankSpec(sample_rate_hz=22_050, num_mel_bins=40),
    ],
    ids=["paper", "centred", "8kHz", "22kHz"],
)
def test_equals_slow_reference(speechlike: np.ndarray, spec: FbankSpec) -> None:
    waveform = speechlike[8_000:14_000]
    expected = slow_fbank(waveform, spec)
    assert num_frames(len(waveform), spec) == len(expected)
    np.testing.assert_allclose(extract_fbank(waveform, spec), expected, atol=5e-3)
    np.testing.assert_allclose(jitted(jnp.asarray(waveform), spec), expected, atol=5e-3)


@pytest.mark.parametrize("spec", [PAPER, CENTRED, FbankSpec(dither=1.0)], ids=["snipped", "centred", "dithered"])
def test_pieces_and_padding_change_nothing(
    speechlike: np.ndarray, spec: FbankSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = jitted(jnp.asarray(speechlike), spec, key=jax.random.key(3))
    monkeypatch.setattr(fbank, "SMALLEST_BUCKET_FRAMES", 16)
    monkeypatch.setattr(fbank, "LARGEST_BUCKET_FRAMES", 32)
    np.testing.assert_allclose(extract_fbank(speechlike, spec, seed=3), whole, atol=1e-3)


def test_a_corpus_of_many_lengths_compiles_few_programs() -> None:
    spec = FbankSpec(num_mel_bins=23)  # a spec that no other test has compiled
    before = fbank._jitted_fbank_of_windows._cache_size()
    for num_samples in range(400, 120_000, 3_331):
        assert extract_fbank(np.zeros(num_samples, np.float32), spec).shape == (num_frames(num_samples, spec), 23)
    assert fbank._jitted_fbank_of_windows._cache_size() - before == 4


def test_vmaps_over_waveforms(speechlike: np.ndarray) -> None:
    batch = np.stack([speechlike[:4_000], speechlike[5_000:9_000]])
    together = jax.jit(jax.vmap(lambda waveform: log_mel_fbank(waveform, PAPER)))(batch)
    for waveform, fbank_of_one in zip(batch, together, strict=True):
        np.testing.assert_allclose(fbank_of_one, extract_fbank(waveform, PAPER), atol=1e-3)


def test_dither_is_seeded_and_lifts_silence() -> None:
    spec = FbankSpec(dither=1.0)
    silence = np.zeros(8_000, np.float32)
    first, again, other = (extract_fbank(silence, spec, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert first.min() > -9
    # overlapping windows draw their own noise, as in Kaldi: frames are not copies of each other
    assert np.abs(first[0] - first[1]).max() > 0.1


def test_energy_comes_first(speechlike: np.ndarray) -> None:
    frames = extract_fbank(speechlike, PAPER)
    assert frames.shape[1] == PAPER.num_features == 81
    window = speechlike[:400].astype(np.float64) * 32768
    np.testing.assert_allclose(frames[0, 0], np.log(np.sum((window - window.mean()) ** 2)), atol=1e-4)


def test_refuses_a_clip_shorter_than_one_window() -> None:
    with pytest.raises(UserError, match=r"20 ms long \(320 samples at 16000 Hz\).*minimum is 25 ms \(400 samples\)"):
        extract_fbank(np.zeros(320, np.float32), FbankSpec())
    with pytest.raises(UserError, match="0 ms long"):
        jitted(jnp.zeros(0), CENTRED)
    assert extract_fbank(np.zeros(400, np.float32), FbankSpec()).shape == (1, 80)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (FbankSpec(num_mel_bins=200), r"num_mel_bins=200 is too many: band \d+ covers no bin of the 512-point"),
        (FbankSpec(dither=1.0), r"dither is 1.0 but log_mel_fbank got no key; pass key=jax.random.key"),
    ],
)
def test_refuses_an_impossible_filterbank(spec: FbankSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        jitted(jnp.zeros(1_000), spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low_hz": 5_000.0, "high_hz": 300.0}, r"low_hz=5000 and fbank.high_hz=300 .* between 0 and 8000 Hz"),
        ({"high_hz": 9_000.0}, "from 20 to 9000 Hz"),
        ({"high_hz": -7_990.0}, "from 20 to 10 Hz"),
        ({"window": "foo"}, "FbankSpec: window must be 'povey' or 'hamming', but it is 'foo'"),
        ({"num_mel_bins": -5}, "num_mel_bins must be an integer above 0, but it is -5"),
        ({"num_mel_bins": 80.0}, r"num_mel_bins must be an integer above 0, but it is 80\.0"),
        ({"low_hz": float("nan")}, "low_hz must be a number of at least 0, but it is nan"),
        ({"preemphasis": 1.5}, "preemphasis must be a number of at least 0 and of at most 1"),
        ({"use_energy": "yes"}, "use_energy must be True or False, but it is 'yes'"),
        ({"frame_length_ms": 0.0}, "frame_length_ms must be a number above 0, but it is 0.0"),
        ({"frame_shift_ms": 0.0}, "frame_shift_ms must be a number above 0, but it is 0.0"),
        ({"frame_shift_ms": 0.05}, "frame_shift_ms=0.05 are 400 and 0.8 samples at 16000 Hz; at least 2 and 1"),
        ({"frame_length_ms": 0.1}, "frame_length_ms=0.1 and .* are 1.6 and 160 samples at 16000 Hz; at least 2 and 1"),
    ],
)
def test_a_filterbank_is_checked_where_it_is_built(options: dict[str, Any], message: str) -> None:
    """Built as users build it, without the checker of types that the tests install."""
    with pytest.raises(UserError, match=message):
        inspect.unwrap(FbankSpec.__init__)(FbankSpec.__new__(FbankSpec), **options)


@pytest.mark.parametrize("function", [log_mel_fbank, extract_fbank])
@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        ([0.0] * 1_000, r"must be an array of samples, not a list: np\.asarray"),
        (np.zeros((2, 1_000), np.float32), r"must have one dimension, its samples, but its shape is \(2, 1000\)"),
        (np.zeros(1_000, np.int16), "floating point numbers.* but its type is int16. Divide 16-bit samples by 32768"),
        (np.where(np.arange(1_000) == 7, np.nan, 0.0), "Sample 7 of the waveform is nan; all must be finite"),
    ],
)
def test_what_is_no_waveform_is_refused(function: Any, waveform: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        inspect.unwrap(function)(waveform, FbankSpec())
