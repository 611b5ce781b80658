"""What decodes counts: wrong headers, wrong endings, recordings laid end to end, codings that allow no jumps."""

import struct
import tracemalloc
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mqmha_jax.errors import UserError
from mqmha_jax.features import audio
from mqmha_jax.features.audio import Part, read_audio, read_audio_bytes
from tests.support.tiny_audio import RATE, write_audio

SUFFIXES = [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".au", ".caf", ".sph", ".m4a", ".aac", ".webm"]


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Two seconds that swell and fade, so that no place is like another."""
    n = 2 * RATE
    return (np.random.default_rng(0).normal(0, 0.1, n) * np.hanning(n)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    if path.suffix == ".sph":
        soundfile.write(path, samples, rate, format="NIST", subtype="PCM_16")
        return path
    return write_audio(path, samples, 48_000 if path.suffix == ".webm" else rate)


def stored(samples: np.ndarray) -> np.ndarray:
    """Rounds samples as a 16-bit file does."""
    return (np.clip(np.round(samples * 32_768), -32_768, 32_767) / 32_768).astype(np.float32)


def change(path: Path, replaced: dict[int, bytes], appended: bytes = b"") -> Path:
    content = bytearray(path.read_bytes())
    for at, new in replaced.items():
        content[at : at + len(new)] = new
    path.write_bytes(bytes(content) + appended)
    return path


def flac_with_total(path: Path, samples: np.ndarray, total: int) -> Path:
    write_audio(path, samples)
    return change(path, {21: bytes([path.read_bytes()[21] & 0xF0]), 22: struct.pack(">I", total)})


@pytest.mark.parametrize("total", [0, 8_000], ids=["unknown", "too small"])
def test_flac_is_read_to_its_end(tmp_path: Path, noise: np.ndarray, total: int) -> None:
    path = flac_with_total(tmp_path / "a.flac", noise, total)
    np.testing.assert_allclose(read_audio(path), noise, atol=4e-5)
    np.testing.assert_allclose(read_audio(path, RATE, Part(0.5, 1.5)), noise[8_000:24_000], atol=4e-5)
    with pytest.raises(UserError, match=r"no part from 3 s to 4 s; it is 2\.00 s long"):
        read_audio(path, RATE, Part(3.0, 4.0))


def test_flac_that_announces_more(tmp_path: Path, noise: np.ndarray) -> None:
    assert len(read_audio(flac_with_total(tmp_path / "a.flac", noise, len(noise) + 400))) == len(noise)
    with pytest.raises(UserError, match=r"is truncated: 2\.00 s of audio are there"):
        read_audio(flac_with_total(tmp_path / "a.flac", noise, 5 * RATE))


@pytest.mark.parametrize("tag", ["front", "back"])
def test_flac_with_a_tag_of_mp3(tmp_path: Path, noise: np.ndarray, tag: str) -> None:
    content = write_audio(tmp_path / "a.flac", noise).read_bytes()
    path = tmp_path / "tagged.flac"
    front = b"ID3\4\0\0\0\0\1\0" + bytes(128)
    path.write_bytes(front + content if tag == "front" else content + b"TAG" + b"x" * 125)
    np.testing.assert_allclose(read_audio(path), noise, atol=4e-5)


@pytest.mark.parametrize("riff", [0, 36], ids=["no size", "size of the header"])
def test_wav_that_was_never_finished(tmp_path: Path, noise: np.ndarray, riff: int) -> None:
    path = write_audio(tmp_path / "a.wav", noise)
    change(path, {4: struct.pack("<I", riff), 40: bytes(4)})
    np.testing.assert_allclose(read_audio(path), noise, atol=4e-5)
    np.testing.assert_allclose(read_audio(path, RATE, Part(0.5, 1.5)), noise[8_000:24_000], atol=4e-5)


def test_wav_with_a_header_that_counts_itself(tmp_path: Path, noise: np.ndarray) -> None:
    path = write_audio(tmp_path / "a.wav", noise)
    np.testing.assert_allclose(read_audio(change(path, {40: struct.pack("<I", 2 * len(noise) + 44)})), noise, atol=4e-5)
    with pytest.raises(UserError, match=r"is truncated: 2\.00 s of audio are there"):
        read_audio(change(path, {40: struct.pack("<I", 4 * len(noise))}))


def test_wav_with_chunks_and_tags_behind_the_samples(tmp_path: Path, noise: np.ndarray) -> None:
    """Reading ignores them: chunks, with and without the byte that makes their sizes even, a tag, zeros."""
    path = write_audio(tmp_path / "a.wav", noise[:1_001])
    content = path.read_bytes()
    for tail in (
        b"LIST\4\0\0\0INFO",
        b"id3 \3\0\0\0abc\0",
        b"id3 \3\0\0\0abcLIST\0\0\0\0",
        b"TAG" + b"x" * 125,
        bytes(999),
    ):
        path.write_bytes(content + tail)
        assert len(read_audio(path)) == 1_001
    path.write_bytes(content[:40] + bytes(4) + b"LIST\4\0\0\0INFO")
    with pytest.raises(UserError, match="holds no samples"):
        read_audio(path)


def test_wav_with_samples_behind_those_that_it_announces(tmp_path: Path, noise: np.ndarray) -> None:
    path = change(write_audio(tmp_path / "a.wav", noise), {40: struct.pack("<I", 16_000)})
    with pytest.raises(UserError, match=r"a\.wav: 16,000 bytes of samples by its header, but 48,000 more follow"):
        read_audio(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_recordings_end_to_end_are_all_read(tmp_path: Path, noise: np.ndarray, suffix: str) -> None:
    one, other = write(tmp_path / f"a{suffix}", noise), write(tmp_path / f"b{suffix}", noise[::-1][: RATE + 320])
    expected = np.concatenate([read_audio(one), read_audio(other)])
    both = tmp_path / f"c{suffix}"
    both.write_bytes(one.read_bytes() + other.read_bytes())
    joined = read_audio(both)
    assert len(joined) == pytest.approx(len(expected), abs=700)  # WebM leaves out only the first one's priming
    if suffix not in (".webm", ".aac"):
        np.testing.assert_allclose(joined, expected, atol=1e-6)
        np.testing.assert_allclose(read_audio(both, RATE, Part(1.5, 2.75)), expected[24_000:44_000], atol=1e-6)


_MANY = {
    "fLaC markers": b"fLaC\0\0\0\x22",
    "empty WAVs": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0",
    "Xing headers": b"\xff\xfb\x90\0" + bytes(32) + b"Xing\0\0\0\0",
}


@pytest.mark.parametrize("head", _MANY.values(), ids=_MANY)
def test_beginnings_of_recordings_without_end_are_refused(head: bytes) -> None:
    content = head * 300_000
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.mp3: holds more than 10,000 recordings laid end to end\. It is damaged"):
        read_audio_bytes(content, "a.mp3")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20


def test_recordings_end_to_end_that_differ(tmp_path: Path, noise: np.ndarray) -> None:
    one, other = write(tmp_path / "a.wav", noise), write(tmp_path / "b.wav", noise, 8_000)
    both = tmp_path / "c.wav"
    both.write_bytes(one.read_bytes() + other.read_bytes())
    with pytest.raises(UserError, match=r"one with 1 channels at 16000 Hz and one with 1 at 8000 Hz\. Give each one"):
        read_audio(both)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("called", [".wav", ".m4a", ".mp3", ".txt"])
def test_the_ending_does_not_matter(tmp_path: Path, noise: np.ndarray, suffix: str, called: str) -> None:
    path = write(tmp_path / f"a{suffix}", noise)
    expected = read_audio(path)
    np.testing.assert_array_equal(read_audio(path.rename(tmp_path / f"b{called}")), expected)


@pytest.mark.parametrize(("form", "coding"), [("WAV", "GSM610"), ("WAV", "G721_32"), ("AU", "G723_24")])
def test_codings_that_allow_no_jumps(tmp_path: Path, noise: np.ndarray, form: str, coding: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, 8_000, format=form, subtype=coding)
    whole = read_audio(path, 8_000)
    assert len(whole) == pytest.approx(len(noise), abs=320)
    np.testing.assert_array_equal(read_audio(path, 8_000, Part(0.5, 1.5)), whole[4_000:12_000])


def test_a_coding_that_only_ffmpeg_reads(tmp_path: Path, noise: np.ndarray) -> None:
    """MP3 in a WAV file, as some recorders write."""
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mp3", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert len(read_audio(path)) == pytest.approx(len(noise), abs=2_000)


def test_speech_of_a_mobile_phone(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "a.amr"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libopencore_amrnb", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((noise[None, :8_000] * 32_767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = 8_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert len(read_audio(path, 8_000)) == pytest.approx(8_000, abs=320)


def test_a_message_names_the_finding(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(b"fLaC" + bytes(99))
    with pytest.raises(UserError, match=r"a\.flac: cannot be decoded as audio: it begins like FLAC, but the rest"):
        read_audio(path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match="it does not begin like any kind of audio file that is read"):
        read_audio(path)


@pytest.mark.parametrize("rate", [1, 999, 4_000_000])
def test_absurd_sample_rates_are_refused(tmp_path: Path, noise: np.ndarray, rate: int) -> None:
    """96 kB at 1 Hz became 5.9 GB."""
    path = change(write_audio(tmp_path / "a.wav", noise), {24: struct.pack("<II", rate, 2 * rate)})
    with pytest.raises(UserError, match=rf"a sample rate of {rate:,} Hz by its header; valid: 1,000 to 768,000 Hz"):
        read_audio(path)


def test_no_more_than_six_hours_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence in FLAC expands a thousandfold."""
    path = write_audio(tmp_path / "a.flac", np.zeros(100 * RATE, np.float32))
    monkeypatch.setattr(audio, "_stream", partial(audio._stream, longest_s=60.0))
    with pytest.raises(UserError, match=r"a\.flac: holds more than 0\.0166667 hours; cut it into shorter files, or"):
        read_audio(path)
    assert len(read_audio(path, RATE, Part(80.0, 90.0))) == 10 * RATE


def test_many_channels_are_decoded_a_few_samples_at_a_time(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (2_000, 200)).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), samples.mean(axis=1), atol=1e-6)


def test_absurd_amplitudes_are_refused(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 32_768 * noise, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"its samples reach [\d.e+]+ where full scale is 1\. .* divide them by 32768"):
        read_audio(path)
    soundfile.write(path, 15 * noise / np.abs(noise).max(), RATE, subtype="FLOAT")
    assert np.abs(read_audio(path)).max() == pytest.approx(15)


def test_channels_that_cancel_are_refused(tmp_path: Path, noise: np.ndarray) -> None:
    path = write_audio(tmp_path / "a.wav", np.stack([noise, -noise], axis=1))
    with pytest.raises(
        UserError,
        match=r"its 2 channels cancel each other when they are averaged, .* opposite phase\. Take one of them",
    ):
        read_audio(path)
    np.testing.assert_allclose(read_audio(path, RATE, Part(channel=1)), -noise, atol=4e-5)
    one_side = write_audio(tmp_path / "b.wav", np.stack([noise, 0 * noise], axis=1))
    np.testing.assert_allclose(read_audio(one_side), noise / 2, atol=4e-5)
    assert not read_audio(write_audio(tmp_path / "c.wav", np.zeros((99, 2)))).any()


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_blocks_do_not_show(tmp_path: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    path = write_audio(tmp_path / "a.flac", np.stack([noise, noise[::-1]], axis=1), rate)
    whole, part = read_audio(path), read_audio(path, RATE, Part(0.1, 0.3))
    monkeypatch.setattr("mqmha_jax.features.sndfile_audio.BLOCK_SAMPLES", 999)
    np.testing.assert_array_equal(read_audio(path), whole)
    np.testing.assert_array_equal(read_audio(path, RATE, Part(0.1, 0.3)), part)


def test_a_file_in_memory_is_of_any_kind(tmp_path: Path, noise: np.ndarray) -> None:
    for suffix in (".m4a", ".webm"):
        path = write(tmp_path / f"a{suffix}", noise)
        np.testing.assert_array_equal(read_audio_bytes(path.read_bytes(), "the tape"), read_audio(path))


def test_mp3_with_a_tag_and_a_header_as_ffmpeg_writes_it(tmp_path: Path) -> None:
    """The tag in front of the first frame is no recording of its own."""
    path = tmp_path / "tagged.mp3"
    encode(path, "libmp3lame", RATE)
    assert path.read_bytes()[:3] == b"ID3"
    assert len(read_audio(path)) == 3 * RATE


def test_amr_of_some_seconds_is_whole(tmp_path: Path) -> None:
    """FFmpeg guesses the length of a stream without a header from its bit rate, a few per cent too long."""
    path = tmp_path / "call.amr"
    encode(path, "libopencore_amrnb", 8_000)
    assert len(read_audio(path)) == pytest.approx(3 * RATE, abs=0.1 * RATE)


def encode(path: Path, codec: str, rate: int) -> None:
    """Writes three seconds of a tone."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
