"""One audio file of any common kind to mono float32 samples, or a sentence that says why not."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from mqmha_jax.errors import UserError

FFMPEG_SUFFIXES = frozenset({".aac", ".m4a", ".mp4", ".webm", ".wma"})
"""What libsndfile cannot decode but corpora come in (VoxCeleb2 is AAC in .m4a); the ffmpeg program reads these."""

BLOCK_FRAMES = 1 << 20
"""Samples are read in blocks, because the length in a damaged header may be billions."""

UNKNOWN_LENGTH = 0x7FFF0000
"""Programs that write WAV into a pipe put sizes near 2^31 or 2^32 into the header: not a promise of so many bytes."""


def read_audio(path: str | Path, sample_rate_hz: int = 16_000) -> Float32[np.ndarray, " n"]:
    """Decode, average the channels, resample.

    Args:
      path: wav, flac, mp3, ogg, opus and what else libsndfile reads; through ffmpeg also m4a, aac, mp4, webm, wma.
      sample_rate_hz: rate of the result.

    Returns:
      Samples, in [-1, 1] for integer formats; at least one.

    Raises:
      UserError: the file is missing, empty, not audio, damaged, cut off, without samples, or with NaN or infinite
        samples; the message starts with the path.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'is not a file' if path.exists() else 'no such file'}.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); copy or download it again.")
    decode = _decode_with_ffmpeg if path.suffix.lower() in FFMPEG_SUFFIXES else _decode
    waveform, rate_hz = decode(path, sample_rate_hz)
    if not len(waveform):
        raise UserError(f"{path}: holds no samples (zero length); leave it out.")
    finite = np.isfinite(waveform)
    if not finite.all():
        raise UserError(
            f"{path}: {int((~finite).sum())} of {len(waveform)} samples are NaN or infinite, the first at "
            f"{finite.argmin() / rate_hz:.3f} s; write the file again."
        )
    return waveform if rate_hz == sample_rate_hz else soxr.resample(waveform, rate_hz, sample_rate_hz)


def _decode(path: Path, _: int) -> tuple[Float32[np.ndarray, " n"], int]:
    """Samples and their rate, the file's own."""
    try:
        with soundfile.SoundFile(path) as file:
            promised, rate_hz = file.frames, file.samplerate
            cut = _header_exceeds_file(file.extra_info) or (file.format == "OGG" and _last_ogg_page_is_cut(path))
            blocks = [np.empty(0, np.float32)]
            while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().removeprefix("Error : ").rstrip(".")
        raise UserError(
            f"{path}: cannot be decoded as audio: {reason}. Either it is another kind of file, or it is cut off or "
            "damaged; copy or download it again."
        ) from error
    waveform = np.concatenate(blocks)
    if cut or len(waveform) < promised:
        raise UserError(
            f"{path}: is truncated: {len(waveform) / rate_hz:.2f} s of audio are there, its header announces more. "
            "Copy or download it again."
        )
    return waveform, rate_hz


def _header_exceeds_file(libsndfile_log: str) -> bool:
    """WAV and AIFF: libsndfile mends a sample count that exceeds the file, and says so in its log only."""
    sizes = re.search(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", libsndfile_log, re.MULTILINE)
    return sizes is not None and int(sizes[2]) < int(sizes[1]) < UNKNOWN_LENGTH


def _last_ogg_page_is_cut(path: Path) -> bool:
    """Ogg promises no total length, but every page (at most 65,307 bytes) says how long it is (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * 65_307))
        tail = file.read()
    page = tail[tail.rfind(b"OggS\0") :]
    if len(page) < 27:
        return True
    num_segments = page[26]
    segments = page[27 : 27 + num_segments]
    return len(page) < 27 + num_segments + sum(segments)


def _decode_with_ffmpeg(path: Path, sample_rate_hz: int) -> tuple[Float32[np.ndarray, " n"], int]:
    """Samples and their rate, which is the one asked for."""
    if shutil.which("ffmpeg") is None:
        raise UserError(
            f"{path}: {path.suffix} files are read through the ffmpeg program, which is not installed. "
            "Install ffmpeg, or convert the files to wav, flac, mp3, ogg or opus."
        )
    output = ["-f", "f32le", "-ac", "1", "-ar", str(sample_rate_hz), "pipe:1"]
    # "file:" keeps ffmpeg from taking a name with a colon for a protocol
    run = subprocess.run(["ffmpeg", "-v", "error", "-xerror", "-i", f"file:{path}", *output], capture_output=True)
    if run.returncode != 0:
        reason = run.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {run.returncode}"]
        raise UserError(f"{path}: ffmpeg cannot decode it ({reason[-1]}).")
    return np.frombuffer(run.stdout, "<f4").astype(np.float32), sample_rate_hz
