"""Audio in containers that libsndfile does not read, above all AAC in m4a as VoxCeleb2 comes; by FFmpeg's libraries.

The samples are those that the ffmpeg program gives: where the container tells how many priming samples the encoder
put in front (an edit list in MP4, the pre-skip of Opus), they are left out; a raw .aac stream tells nothing and keeps
them, 1,024 for most encoders. What an encoder appended to fill its last frame stays.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from mqmha_jax.errors import UserError

CONTAINER_FORMATS = {".aac": "aac", ".m4a": "mp4", ".mp4": "mp4", ".webm": "webm", ".wma": "asf"}
"""Name of the container by the ending of a file. Only that one is tried: among those that FFmpeg would guess from the
contents are playlists, which make it read other files and open connections."""

SLACK_S = 0.05
"""By so much the length that a container gives may exceed that of its audio: more than one packet of Opus."""


def decode_container(path: Path) -> tuple[Float32[np.ndarray, "n channels"], int]:
    """Decodes the first audio track; of video nothing is decoded.

    Args:
      path: a file that ends in one of ``CONTAINER_FORMATS``.

    Returns:
      Samples, in [-1, 1], and their rate in Hz, the file's own.

    Raises:
      UserError: the file is of another kind, damaged or cut off, or has no audio; the message starts with the path.
    """
    import av  # here: its libraries take a while to load, and most corpora do without

    try:
        # FFmpeg is handed an open file: it would take a name with a colon for a protocol.
        with (
            path.open("rb") as opened,
            av.open(opened, format=CONTAINER_FORMATS[path.suffix.lower()], metadata_errors="ignore") as file,
        ):
            if not file.streams.audio:
                raise UserError(f"{path}: holds no audio track; leave it out.")
            return _decode(path, file, av.AudioResampler(format="fltp"))
    except av.FFmpegError as error:
        raise UserError(
            f"{path}: cannot be decoded as audio: {error.strerror}. Either it is of another kind, or it is cut off "
            "or damaged; copy or download it again."
        ) from error


def _decode(path: Path, file: Any, to_float: Any) -> tuple[Float32[np.ndarray, "n channels"], int]:
    stream = file.streams.audio[0]
    if stream.codec_context is None:
        raise UserError(f"{path}: cannot be decoded as audio: its coding is not known. Convert it to wav.")
    stream.codec_context.thread_count = 1  # the workers are the threads
    blocks: list[np.ndarray] = []
    rate_hz, num_packets = 0, 0
    for packet in file.demux(stream):
        num_packets += packet.size > 0
        for frame in packet.decode():
            if blocks and (frame.sample_rate, len(frame.layout.channels)) != (rate_hz, len(blocks[0])):
                raise UserError(f"{path}: changes its sample rate or its channels on the way; convert it to wav.")
            rate_hz = frame.sample_rate
            blocks += [part.to_ndarray() for part in to_float.resample(frame)]
    if not blocks:
        raise UserError(f"{path}: holds no samples (zero length); leave it out.")
    channels = np.concatenate(blocks, axis=1).T
    seconds = len(channels) / rate_hz
    if stream.frames:  # MP4 lists its packets
        is_cut = num_packets < stream.frames
    else:  # of a raw stream FFmpeg only guesses the length
        is_cut = file.format.name != "aac" and file.duration is not None and seconds < file.duration / 1e6 - SLACK_S
    if is_cut:
        raise UserError(
            f"{path}: is truncated: {seconds:.2f} s of audio are there, its header announces more. Copy or download "
            "it again."
        )
    return channels, rate_hz
