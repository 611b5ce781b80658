"""One audio file of any common kind to mono float32 samples, or a sentence that says why not.

The decoded samples count, not the length in the header; the first bytes decide the kind, not the ending of the name.
"""

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mqmha_jax.errors import UserError
from mqmha_jax.features.audio_kinds import WAV, Kind, kind_of, recording_starts
from mqmha_jax.features.container_audio import decode_container
from mqmha_jax.features.decoded import Decoded, undecodable
from mqmha_jax.features.file_window import FileWindow, ReadableFile, size_of
from mqmha_jax.features.mixdown import LONGEST_S, Mixdown
from mqmha_jax.features.part import WHOLE, Part
from mqmha_jax.features.sndfile_audio import UnreadableCodingError, decode_sndfile
from mqmha_jax.features.wav_header import wav_extent

MOST_RECORDINGS = 10_000
"""More beginnings of recordings in one file are damage, or made to fill the memory: a few bytes suffice for each."""


def read_audio(path: str | Path, sample_rate_hz: int = 16_000, part: Part = WHOLE) -> Float32[np.ndarray, " n"]:
    """Decodes a file, makes one channel of all, resamples.

    Args:
      path: wav, flac, mp3, ogg, opus, aiff, au, caf, sph and what else libsndfile reads; m4a, aac, mp4, webm, wma, amr.
        Of recordings laid end to end in one file, all are read.
      sample_rate_hz: rate of the result.
      part: what is wanted of the file; no more than it needs is decoded.

    Returns:
      Samples, in [-1, 1] for integer formats; at least one.

    Raises:
      UserError: the file is missing, empty, not audio, damaged, cut off, longer than 6 hours, without samples, with
        samples that are NaN, infinite or of an absurd size, with channels that cancel each other, or it has no such
        part; the message starts with the path.
    """
    return _join(stream_audio(path, sample_rate_hz, part))


def stream_audio(
    path: str | Path, sample_rate_hz: int = 16_000, part: Part = WHOLE
) -> Iterator[Float32[np.ndarray, " _"]]:
    """``read_audio`` in blocks, for recordings that are too long for the memory.

    Args:
      path, sample_rate_hz, part: as for ``read_audio``.

    Yields:
      The samples of ``read_audio``, some at a time; a block may be empty.

    Raises:
      UserError: as ``read_audio``; what only the whole recording shows is raised after the last block.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'is not a file' if path.exists() else 'no such file'}.")
    try:
        with path.open("rb") as file:
            yield from _stream(file, str(path), path.suffix.lower(), sample_rate_hz, part)
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read ({error.strerror}).") from error


def read_audio_bytes(
    content: bytes, name: str, sample_rate_hz: int = 16_000, *, longest_s: float = LONGEST_S
) -> Float32[np.ndarray, " n"]:
    """``read_audio`` of a file in memory.

    Args:
      content: of the file.
      name: what messages call it.
      sample_rate_hz: rate of the result.
      longest_s: a longer recording is refused, and no more of it is decoded.

    Returns:
      As ``read_audio``.

    Raises:
      TooLongError: the recording is longer than ``longest_s``.
      UserError: as ``read_audio``; the message starts with the name.
    """
    if not content:
        raise UserError(f"{name}: there is no audio (0 bytes).")
    return _join(_stream(io.BytesIO(content), name, "", sample_rate_hz, WHOLE, longest_s))


def _join(blocks: Iterator[np.ndarray]) -> Float32[np.ndarray, " n"]:
    kept = [block for block in blocks if len(block)] or [np.zeros(0, np.float32)]
    return kept[0] if len(kept) == 1 else np.concatenate(kept)


def _stream(
    file: ReadableFile, name: str, suffix: str, sample_rate_hz: int, part: Part, longest_s: float = LONGEST_S
) -> Iterator[Float32[np.ndarray, " _"]]:
    if not size_of(file):
        raise UserError(f"{name}: the file is empty (0 bytes); copy or download it again.")
    kind = kind_of(file, suffix)
    mixdown = Mixdown(name, sample_rate_hz, part, longest_s)
    recordings = _recordings(file, kind, name)
    for window in recordings:
        start_s = part.start_s if len(recordings) == 1 else 0.0
        with _decode(window, name, kind, start_s) as decoded:
            mixdown.begin(decoded.rate_hz, decoded.num_channels, decoded.first)
            while not mixdown.is_complete and (block := next(decoded.blocks, None)) is not None:
                samples = mixdown.add(block)
                if not mixdown.is_broken:  # NaN spreads; the rest is only counted, for the message
                    yield samples
    yield mixdown.finish()


def _recordings(file: ReadableFile, kind: Kind | None, name: str) -> list[FileWindow]:
    """The recordings that lie end to end in a file; mostly one."""
    windows = list(itertools.islice(_windows(file, kind, name), MOST_RECORDINGS + 1))
    if len(windows) > MOST_RECORDINGS:
        raise UserError(
            f"{name}: holds more than {MOST_RECORDINGS:,} recordings laid end to end. It is damaged; copy or download "
            "it again, or cut it into shorter files."
        )
    return windows


def _windows(file: ReadableFile, kind: Kind | None, name: str) -> Iterator[FileWindow]:
    if kind == WAV:
        start, size = 0, size_of(file)
        while start < size:
            stop, replaced = wav_extent(file, start, name)
            yield FileWindow(file, start, stop, replaced)
            start = stop
    else:
        starts = recording_starts(file, kind)
        start = next(starts)
        for following in starts:
            yield FileWindow(file, start, following)
            start = following
        yield FileWindow(file, start)


@contextlib.contextmanager
def _decode(window: FileWindow, name: str, kind: Kind | None, start_s: float) -> Iterator[Decoded]:
    """Opens a recording with the library that reads it."""
    with contextlib.ExitStack() as stack:
        if kind is None or not kind.needs_ffmpeg:
            try:
                yield stack.enter_context(decode_sndfile(window, name, kind, start_s))
                return
            except UnreadableCodingError as error:
                if kind is None:
                    raise UserError(undecodable(name, None)) from error
        window.seek(0)
        yield stack.enter_context(decode_container(window, name, kind))
