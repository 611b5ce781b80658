"""The reader takes every promised kind of file, and answers each broken one with a sentence."""

from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile
import soxr

from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import Part, read_audio, read_audio_bytes
from mqmha_jax.features.audio_kinds import AUDIO_SUFFIXES
from tests.support.tiny_audio import RATE, encode, write_audio

CONTAINER_SUFFIXES = [suffix for suffix, kind in AUDIO_SUFFIXES.items() if kind.needs_ffmpeg]


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    """Two seconds of 440 Hz under a slow swell."""
    seconds = np.arange(2 * RATE) / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * seconds) * np.hanning(len(seconds))).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".wav", 4e-5), (".flac", 4e-5), (".ogg", 0.02), (".opus", 0.02), (".mp3", 0.02)]
)
def test_reads_every_promised_format(tmp_path: Path, tone: np.ndarray, suffix: str, tolerance: float) -> None:
    waveform = read_audio(write_audio(tmp_path / f"a{suffix}", tone))
    assert waveform.dtype == np.float32
    assert abs(len(waveform) - len(tone)) < 0.1 * RATE
    np.testing.assert_allclose(waveform[: len(tone)], tone[: len(waveform)], atol=tolerance)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_resamples(tmp_path: Path, rate: int) -> None:
    seconds = np.arange(2 * rate) / rate
    waveform = read_audio(write_audio(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 440 * seconds), rate))
    expected = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    assert len(waveform) == len(expected)
    # soxr rings at the two ends
    np.testing.assert_allclose(waveform[500:-500], expected[500:-500], atol=1e-3)


@pytest.mark.slow
def test_resampling_is_librosas(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    ours = read_audio(write_audio(tmp_path / "a.wav", samples, 8_000))
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_allclose(ours, librosa.resample(stored, orig_sr=8_000, target_sr=RATE), atol=1e-6)


def test_averages_channels(tmp_path: Path, tone: np.ndarray) -> None:
    stereo = np.stack([tone, 0.5 * tone[::-1]], axis=1)
    np.testing.assert_allclose(read_audio(write_audio(tmp_path / "a.wav", stereo)), stereo.mean(axis=1), atol=4e-5)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.wav: no such file"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(UserError, match="is not a file"):
        read_audio(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.touch()
    with pytest.raises(UserError, match=r"a\.flac: the file is empty \(0 bytes\)"):
        read_audio(path)


@pytest.mark.parametrize(
    "content", [b"dear listener\n" * 99, bytes(5_000), b"RIFF"], ids=["text", "zeros", "four bytes"]
)
def test_a_file_without_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.wav: cannot be decoded as audio: .*another kind of file"):
        read_audio(path)


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".flac", ".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("kept", [0.4, 0.97])
def test_a_truncated_file_is_refused(tmp_path: Path, tone: np.ndarray, suffix: str, kept: float) -> None:
    path = write_audio(tmp_path / f"a{suffix}", tone)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        UserError, match=rf"a\{suffix}: (is truncated: [\d.]+ s of audio are there|.* cut off or damaged)"
    ):
        read_audio(path)


def test_wav_from_a_pipe_has_no_length_and_is_whole(tmp_path: Path, tone: np.ndarray) -> None:
    path = write_audio(tmp_path / "a.wav", tone)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_audio(path)) == len(tone)


def test_zero_length(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.wav: holds no samples \(zero length\)"):
        read_audio(write_audio(tmp_path / "a.wav", np.zeros(0)))


def test_nan_and_infinite_samples(tmp_path: Path, tone: np.ndarray) -> None:
    broken = tone[:8_000].copy()
    broken[[4_000, 5_000]] = np.nan, np.inf
    path = write_audio(tmp_path / "a.wav", broken, rate=8_000)
    with pytest.raises(UserError, match=r"2 of 8000 samples are NaN or infinite, the first at 0\.500 s"):
        read_audio(path)
    write_audio(path, np.array([[0.0, np.nan], [np.inf, -np.inf], [np.inf, 0.1]]))
    with pytest.raises(UserError, match=r"3 of 3 samples are NaN or infinite, the first at 0\.000 s"):
        read_audio(path)


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}], ids=["index last", "index first"])
def test_m4a_is_decoded_without_its_priming_samples(tmp_path: Path, tone: np.ndarray, options: dict[str, str]) -> None:
    path = tmp_path / "a b: c.m4a"
    encode(path, tone, **options)
    waveform = read_audio(path)
    assert waveform.dtype == np.float32
    assert 0 <= len(waveform) - len(tone) < 1024  # what fills the encoder's last frame
    np.testing.assert_allclose(waveform[: len(tone)], tone, atol=2e-3)
    resampled = read_audio(path, 8_000)
    np.testing.assert_allclose(resampled, soxr.resample(waveform, RATE, 8_000), atol=1e-6)


def test_raw_aac_keeps_the_priming_samples(tmp_path: Path, tone: np.ndarray) -> None:
    waveform = read_audio(write_audio(tmp_path / "a.aac", tone))
    np.testing.assert_allclose(waveform[1024 : 1024 + len(tone)], tone, atol=2e-3)


def test_webm_at_its_own_rate(tmp_path: Path) -> None:
    seconds = np.arange(2 * 48_000) / 48_000
    write_audio(tmp_path / "a.webm", 0.3 * np.sin(2 * np.pi * 440 * seconds), 48_000)
    waveform = read_audio(tmp_path / "a.webm")
    assert len(waveform) == pytest.approx(2 * RATE, abs=RATE // 50)
    expected = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    np.testing.assert_allclose(waveform[2_000:-2_000], expected[2_000 : len(waveform) - 2_000], atol=0.02)


def test_m4a_averages_channels(tmp_path: Path, tone: np.ndarray) -> None:
    write_audio(tmp_path / "a.m4a", np.stack([tone, -0.5 * tone], axis=1))
    np.testing.assert_allclose(read_audio(tmp_path / "a.m4a")[: len(tone)], 0.25 * tone, atol=5e-3)


def test_the_sound_of_a_film_is_read(tmp_path: Path, tone: np.ndarray) -> None:
    encode(tmp_path / "a.mp4", tone, video=True)
    np.testing.assert_allclose(read_audio(tmp_path / "a.mp4")[: len(tone)], tone, atol=2e-3)


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        file.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        file.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"a\.mp4: holds no audio track; leave it out"):
        read_audio(tmp_path / "a.mp4")


@pytest.mark.parametrize("kept", [0.4, 0.9, 0.97])
@pytest.mark.parametrize("name", ["last.m4a", "first.m4a", "a.aac", "fragments.mp4", "a.webm"])
def test_truncated_containers_are_refused(tmp_path: Path, tone: np.ndarray, name: str, kept: float) -> None:
    options = {"first.m4a": "faststart", "fragments.mp4": "frag_keyframe+empty_moov"}
    path = tmp_path / name
    if path.suffix == ".webm":
        encode(path, np.repeat(tone, 3), 48_000)
    else:
        encode(path, tone, **({"movflags": options[name]} if name in options else {}))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=rf"{name}: (is truncated: [\d.]+ s of audio are there|.* cut off or damaged)"):
        read_audio(path)


@pytest.mark.parametrize(
    "content", [b"dear listener\n" * 99, bytes(5_000), b"RIFF"], ids=["text", "zeros", "four bytes"]
)
@pytest.mark.parametrize("suffix", CONTAINER_SUFFIXES)
def test_a_broken_container_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\{suffix}: (cannot be decoded as audio: .*another kind|holds no)"):
        read_audio(path)


def test_a_playlist_is_not_followed(tmp_path: Path, tone: np.ndarray) -> None:
    """FFmpeg would recognise a playlist under any name, and read the other file."""
    write_audio(tmp_path / "secret.aac", tone)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{tmp_path}/secret.aac\n#EXT-X-ENDLIST\n"
    for suffix in CONTAINER_SUFFIXES:
        path = tmp_path / f"a{suffix}"
        path.write_text(playlist)
        with pytest.raises(UserError, match=rf"a\{suffix}: (cannot be decoded|holds no)"):
            read_audio(path)


def test_an_unknown_coding_is_refused(tmp_path: Path, tone: np.ndarray) -> None:
    path = write_audio(tmp_path / "a.m4a", tone)
    # What the sample entry and the decoder's description call it; 0x40 is AAC, 0xFE nobody's.
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"zzzz").replace(b"\x40\x15", b"\xfe\x15"))
    with pytest.raises(UserError, match=r"a\.m4a: cannot be decoded as audio: its coding is not known\. Convert it"):
        read_audio(path)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".m4a", ".aac", ".webm"])
def test_damage_anywhere_is_read_or_reported(tmp_path: Path, tone: np.ndarray, suffix: str) -> None:
    path = write_audio(tmp_path / f"a{suffix}", tone, 48_000 if suffix == ".webm" else RATE)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    told = 0
    for number in range(60):
        damaged = content.copy()
        reach = len(content) if number % 2 else min(600, len(content))  # headers matter most
        damaged[rng.integers(0, reach, 6)] = rng.integers(0, 256, 6)
        path.write_bytes(damaged.tobytes())
        try:
            waveform = read_audio(path)
        except UserError:
            told += 1
        else:
            assert np.isfinite(waveform).all()
    assert told


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"])
def test_a_part_is_a_part_of_the_whole(tmp_path: Path, tone: np.ndarray, suffix: str) -> None:
    path = write_audio(tmp_path / f"a{suffix}", tone)
    whole = read_audio(path)
    np.testing.assert_allclose(read_audio(path, RATE, Part(0.5, 1.25)), whole[8_000:20_000], atol=1e-3)
    np.testing.assert_allclose(read_audio(path, RATE, Part(1.5)), whole[24_000:], atol=1e-3)
    overshot = read_audio(path, RATE, Part(0.5, len(whole) / RATE + 0.3))
    np.testing.assert_allclose(overshot, whole[8_000:], atol=1e-3)


def test_only_the_part_is_decoded(tmp_path: Path) -> None:
    samples = np.zeros(4 * RATE, np.float32)
    samples[0] = np.nan
    path = write_audio(tmp_path / "a.wav", samples)
    assert len(read_audio(path, RATE, Part(1.0, 1.5))) == RATE // 2
    with pytest.raises(UserError, match=r"1 of 8000 samples are NaN or infinite, the first at 0\.000 s"):
        read_audio(path, RATE, Part(0.0, 0.5))


@pytest.mark.parametrize("part", [Part(2.1), Part(0.5, 2.6), Part(1.0, 0.5), Part(-1.0, 1.0)])
@pytest.mark.parametrize("suffix", [".wav", ".m4a"])
def test_a_missing_part_is_refused(tmp_path: Path, tone: np.ndarray, suffix: str, part: Part) -> None:
    with pytest.raises(UserError, match=rf"a\{suffix}: has no part from .* s to .*; it is 2\.\d+ s long"):
        read_audio(write_audio(tmp_path / f"a{suffix}", tone), RATE, part)


def test_one_channel(tmp_path: Path, tone: np.ndarray) -> None:
    path = write_audio(tmp_path / "a.wav", np.stack([tone, 0.5 * tone], axis=1))
    np.testing.assert_allclose(read_audio(path, RATE, Part(channel=0)), tone, atol=4e-5)
    np.testing.assert_allclose(read_audio(path, RATE, Part(channel=1)), 0.5 * tone, atol=4e-5)
    with pytest.raises(UserError, match=r"a\.wav: has 2 channels, so no channel 2 \(counted from 0\)"):
        read_audio(path, RATE, Part(channel=2))
    for channel in (-1, -3, True, 1.0):
        with pytest.raises(UserError, match=rf"a\.wav: channel is {channel}; valid: an integer of at least 0\."):
            read_audio(path, RATE, Part(channel=channel))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_file_in_memory_is_read(tmp_path: Path, tone: np.ndarray, suffix: str) -> None:
    path = write_audio(tmp_path / f"a{suffix}", tone)
    content = path.read_bytes()
    np.testing.assert_array_equal(read_audio_bytes(content, "a", 8_000), read_audio(path, 8_000))
    with pytest.raises(UserError, match=r"the tape: (is truncated|cannot be decoded)"):
        read_audio_bytes(content[: int(0.9 * len(content))], "the tape")
    with pytest.raises(UserError, match=r"the tape: there is no audio \(0 bytes\)"):
        read_audio_bytes(b"", "the tape")


def test_real_recordings(speech_dir: Path) -> None:
    for pattern in ("audio/**/*.opus", "audio/**/*.flac", "rir/*.flac"):
        path = next(speech_dir.glob(pattern))
        waveform = read_audio(path)
        assert len(waveform) == pytest.approx(soundfile.info(path).duration * RATE, abs=1)
        assert 1e-3 < np.abs(waveform).max() <= 1.0
