"""Files of every kind we promise, and the sentence that each broken one gets."""

import stat
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio

RATE = 16_000


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    """Two seconds of 440 Hz under a slow swell."""
    seconds = np.arange(2 * RATE) / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * seconds) * np.hanning(len(seconds))).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    if path.suffix == ".opus":
        soundfile.write(path, samples, rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate, subtype="FLOAT" if np.isnan(samples).any() else None)
    return path


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".wav", 4e-5), (".flac", 4e-5), (".ogg", 0.02), (".opus", 0.02), (".mp3", 0.02)]
)
def test_reads_every_promised_format(tmp_path: Path, tone: np.ndarray, suffix: str, tolerance: float) -> None:
    waveform = read_audio(write(tmp_path / f"a{suffix}", tone))
    assert waveform.dtype == np.float32
    assert abs(len(waveform) - len(tone)) < 0.1 * RATE
    np.testing.assert_allclose(waveform[: len(tone)], tone[: len(waveform)], atol=tolerance)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_resamples(tmp_path: Path, rate: int) -> None:
    seconds = np.arange(2 * rate) / rate
    waveform = read_audio(write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 440 * seconds), rate))
    expected = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    assert len(waveform) == len(expected)
    # soxr rings at the two ends
    np.testing.assert_allclose(waveform[500:-500], expected[500:-500], atol=1e-3)


def test_resampling_is_librosas(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    ours = read_audio(write(tmp_path / "a.wav", samples, 8_000))
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_allclose(ours, librosa.resample(stored, orig_sr=8_000, target_sr=RATE), atol=1e-6)


def test_averages_channels(tmp_path: Path, tone: np.ndarray) -> None:
    stereo = np.stack([tone, 0.5 * tone[::-1]], axis=1)
    np.testing.assert_allclose(read_audio(write(tmp_path / "a.wav", stereo)), stereo.mean(axis=1), atol=4e-5)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.wav: no such file"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(UserError, match="is not a file"):
        read_audio(tmp_path)


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.touch()
    with pytest.raises(UserError, match=r"a\.flac: the file is empty \(0 bytes\)"):
        read_audio(path)


@pytest.mark.parametrize(
    "content", [b"dear listener\n" * 99, bytes(5_000), b"RIFF"], ids=["text", "zeros", "four bytes"]
)
def test_not_audio(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.wav: cannot be decoded as audio: .*another kind of file"):
        read_audio(path)


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".flac", ".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("kept", [0.4, 0.97])
def test_truncated(tmp_path: Path, tone: np.ndarray, suffix: str, kept: float) -> None:
    path = write(tmp_path / f"a{suffix}", tone)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        UserError, match=rf"a\{suffix}: (is truncated: [\d.]+ s of audio are there|.* cut off or damaged)"
    ):
        read_audio(path)


def test_wav_from_a_pipe_has_no_length_and_is_whole(tmp_path: Path, tone: np.ndarray) -> None:
    path = write(tmp_path / "a.wav", tone)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_audio(path)) == len(tone)


def test_zero_length(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.wav: holds no samples \(zero length\)"):
        read_audio(write(tmp_path / "a.wav", np.zeros(0)))


def test_nan_and_infinite_samples(tmp_path: Path, tone: np.ndarray) -> None:
    broken = tone[:8_000].copy()
    broken[[4_000, 5_000]] = np.nan, np.inf
    path = write(tmp_path / "a.wav", broken, rate=8_000)
    with pytest.raises(UserError, match=r"2 of 8000 samples are NaN or infinite, the first at 0\.500 s"):
        read_audio(path)


def test_m4a_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A ")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"a\.m4a: \.m4a files are read through the ffmpeg program, which is not installed"
    ):
        read_audio(path)


@pytest.mark.parametrize("status", [0, 1])
def test_m4a_through_ffmpeg(tmp_path: Path, tone: np.ndarray, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in program checks what we ask of ffmpeg and how its answer is taken."""
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A ")
    (tmp_path / "answer").write_bytes(tone.tobytes())
    program = tmp_path / "ffmpeg"
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *"-i file:"*a.m4a*"-f f32le -ac 1 -ar 8000 pipe:1") ;; *) echo "wrong: $*" >&2; exit 2 ;; esac\n'
        f"/bin/cat {tmp_path}/answer\necho moov atom not found >&2\nexit {status}\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    if status == 0:
        np.testing.assert_array_equal(read_audio(path, 8_000), tone)
    else:
        with pytest.raises(UserError, match=r"a\.m4a: ffmpeg cannot decode it \(moov atom not found\)"):
            read_audio(path, 8_000)


def test_real_recordings(speech_dir: Path) -> None:
    for pattern in ("audio/**/*.opus", "audio/**/*.flac", "rir/*.flac"):
        path = next(speech_dir.glob(pattern))
        waveform = read_audio(path)
        assert len(waveform) == pytest.approx(soundfile.info(path).duration * RATE, abs=1)
        assert 1e-3 < np.abs(waveform).max() <= 1.0
