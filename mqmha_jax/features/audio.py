"""One audio file of any common kind to mono float32 samples, or a sentence that says why not."""

import io
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from mqmha_jax.errors import UserError
from mqmha_jax.features.container_audio import CONTAINER_FORMATS, decode_container

BLOCK_FRAMES = 1 << 20
"""Samples are read in blocks, because the length in a damaged header may be billions."""

UNKNOWN_LENGTH = 0x7FFF0000
"""Programs that write WAV into a pipe put sizes near 2^31 or 2^32 into the header: not a promise of so many bytes."""

OVERSHOOT_S = 0.5
"""A part may end so much later than its file, and is shorter then: the ends in lists of segments are rounded."""


class Part(NamedTuple):
    """What is wanted of a file; by default all of it.

    Attributes:
      start_s: where the part starts.
      end_s: where it ends; None: where the file ends.
      channel: the channel to take, the first is 0; None: the mean of all channels.
    """

    start_s: float = 0.0
    end_s: float | None = None
    channel: int | None = None

    def frames(self, name: str, rate_hz: int, num_frames: int) -> slice:
        """Where the part is in a file of so many samples.

        Args:
          name: of the file, for the message.
          rate_hz: of the file.
          num_frames: of the file.

        Raises:
          UserError: the part does not lie in the file.
        """
        start = round(self.start_s * rate_hz)
        stop = num_frames if self.end_s is None else round(self.end_s * rate_hz)
        if not 0 <= start <= min(stop, num_frames) or stop > num_frames + OVERSHOOT_S * rate_hz:
            end = "its end" if self.end_s is None else f"{self.end_s:g} s"
            raise UserError(
                f"{name}: has no part from {self.start_s:g} s to {end}; it is {num_frames / rate_hz:.2f} s long. Mend "
                "the list that names the part."
            )
        return slice(start, min(stop, num_frames))


WHOLE = Part()


def read_audio(path: str | Path, sample_rate_hz: int = 16_000, part: Part = WHOLE) -> Float32[np.ndarray, " n"]:
    """Decode, make one channel of all, resample.

    Args:
      path: wav, flac, mp3, ogg, opus and what else libsndfile reads, of which no more than the part is decoded; and
        m4a, aac, mp4, webm, wma.
      sample_rate_hz: rate of the result.
      part: what is wanted of the file.

    Returns:
      Samples, in [-1, 1] for integer formats; at least one.

    Raises:
      UserError: the file is missing, empty, not audio, damaged, cut off, without samples, with NaN or infinite samples,
        or it has no such part; the message starts with the path.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'is not a file' if path.exists() else 'no such file'}.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); copy or download it again.")
    if path.suffix.lower() in CONTAINER_FORMATS:
        channels, rate_hz = decode_container(path)
        channels = channels[part.frames(str(path), rate_hz, len(channels))]
    else:
        channels, rate_hz = _decode(path, str(path), part)
    return _finished(channels, rate_hz, str(path), sample_rate_hz, part)


def read_audio_bytes(content: bytes, name: str, sample_rate_hz: int = 16_000) -> Float32[np.ndarray, " n"]:
    """``read_audio`` of a file in memory, of a kind that libsndfile reads.

    Args:
      content: of the file.
      name: what messages call it.
      sample_rate_hz: rate of the result.

    Returns:
      As ``read_audio``.

    Raises:
      UserError: as ``read_audio``; the message starts with the name.
    """
    if not content:
        raise UserError(f"{name}: there is no audio (0 bytes).")
    channels, rate_hz = _decode(io.BytesIO(content), name, WHOLE)
    return _finished(channels, rate_hz, name, sample_rate_hz, WHOLE)


def _finished(
    channels: Float32[np.ndarray, "n channels"], rate_hz: int, name: str, sample_rate_hz: int, part: Part
) -> Float32[np.ndarray, " m"]:
    if not len(channels):
        raise UserError(f"{name}: holds no samples (zero length); leave it out.")
    if part.channel is not None and part.channel >= channels.shape[1]:
        raise UserError(f"{name}: has {channels.shape[1]} channels; number {part.channel} (from 0) is not there.")
    if part.channel is None and channels.shape[1] > 1:
        with np.errstate(invalid="ignore"):  # infinities of either sign: told below
            waveform = channels.mean(axis=1)
    else:
        waveform = np.ascontiguousarray(channels[:, part.channel or 0])
    finite = np.isfinite(waveform)
    if not finite.all():
        raise UserError(
            f"{name}: {int((~finite).sum())} of {len(waveform)} samples are NaN or infinite, the first at "
            f"{part.start_s + finite.argmin() / rate_hz:.3f} s; write the file again."
        )
    return waveform if rate_hz == sample_rate_hz else soxr.resample(waveform, rate_hz, sample_rate_hz)


def _decode(source: Path | io.BytesIO, name: str, part: Part) -> tuple[Float32[np.ndarray, "n channels"], int]:
    """Samples of the part and their rate, the file's own."""
    try:
        with soundfile.SoundFile(source) as file:
            rate_hz, num_channels = file.samplerate, file.channels
            wanted = part.frames(name, rate_hz, file.frames)
            cut = _header_exceeds_file(file.extra_info) or (file.format == "OGG" and _last_ogg_page_is_cut(source))
            # libsndfile's first samples after a jump in MP3 are wrong: a frame builds on those before it.
            first = 0 if file.format == "MP3" else wanted.start
            file.seek(first)
            blocks, missing = [np.empty((0, num_channels), np.float32)], wanted.stop - first
            while len(block := file.read(min(missing, BLOCK_FRAMES), dtype="float32", always_2d=True)):
                blocks.append(block)
                missing -= len(block)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().removeprefix("Error : ").rstrip(".")
        raise UserError(
            f"{name}: cannot be decoded as audio: {reason}. Either it is another kind of file, or it is cut off or "
            "damaged; copy or download it again."
        ) from error
    channels = np.concatenate(blocks)
    if cut or missing:
        raise UserError(
            f"{name}: is truncated: {(first + len(channels)) / rate_hz:.2f} s of audio are there, its "
            "header announces more. Copy or download it again."
        )
    return channels[wanted.start - first :], rate_hz


def _header_exceeds_file(libsndfile_log: str) -> bool:
    """WAV and AIFF: libsndfile mends a sample count that exceeds the file, and says so in its log only."""
    sizes = re.search(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", libsndfile_log, re.MULTILINE)
    return sizes is not None and int(sizes[2]) < int(sizes[1]) < UNKNOWN_LENGTH


def _last_ogg_page_is_cut(source: Path | io.BytesIO) -> bool:
    """Ogg promises no total length, but every page (at most 65,307 bytes) says how long it is (RFC 3533, section 6)."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            tail = _tail(file)
    else:
        tail = source.getvalue()
    page = tail[tail.rfind(b"OggS\0") :]
    if len(page) < 27:
        return True
    num_segments = page[26]
    segments = page[27 : 27 + num_segments]
    return len(page) < 27 + num_segments + sum(segments)


def _tail(file: BinaryIO) -> bytes:
    file.seek(max(0, file.seek(0, io.SEEK_END) - 2 * 65_307))
    return file.read()
