"""Audio that libsndfile does not read, above all AAC in m4a as VoxCeleb2 comes; by FFmpeg's libraries.

The samples are those that the ffmpeg program gives: where the container tells how many priming samples the encoder
put in front (an edit list in MP4, the pre-skip of Opus), they are left out; a raw .aac stream tells nothing and keeps
them, 1,024 for most encoders. What an encoder appended to fill its last frame stays.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32

from mqmha_jax.errors import UserError
from mqmha_jax.features.audio_kinds import AAC, AMR, Kind
from mqmha_jax.features.decoded import SLACK_S, Decoded, describe_truncation, undecodable
from mqmha_jax.features.file_window import FileWindow

_BLOCK_FRAMES = 1 << 15
"""Packets are short, and each block has a cost of its own."""


@contextlib.contextmanager
def decode_container(window: FileWindow, name: str, kind: Kind) -> Iterator[Decoded]:
    """Opens the first audio track; of video nothing is decoded.

    Args:
      window: on a file with one recording. FFmpeg is handed an open file: it would take a name with a colon for a
        protocol.
      name: what messages call it.
      kind: says which of FFmpeg's demuxers reads it.

    Raises:
      UserError: the file is of another kind, damaged or cut off, or has no audio.
    """
    import av  # here: its libraries take a while to load, and most corpora do without

    try:
        with av.open(window, format=kind.demuxer, metadata_errors="ignore") as file:
            if not file.streams.audio:
                raise UserError(f"{name}: holds no audio track; leave it out.")
            blocks = _blocks(name, kind, file, av.AudioResampler(format="fltp"))
            first = next(blocks, None)
            if first is None:
                raise UserError(f"{name}: holds no samples (zero length); leave it out.")
            rate_hz, block = first
            yield Decoded(rate_hz, block.shape[1], 0, _after(block, blocks))
    except av.FFmpegError as error:
        raise UserError(undecodable(name, kind.name)) from error


def _after(first: np.ndarray, blocks: Iterator[tuple[int, np.ndarray]]) -> Iterator[Float32[np.ndarray, "n channels"]]:
    yield first
    for _, block in blocks:
        yield block


def _blocks(name: str, kind: Kind, file: Any, to_float: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Sample rate and samples of every block."""
    stream = file.streams.audio[0]
    if stream.codec_context is None:
        raise UserError(f"{name}: cannot be decoded as audio: its coding is not known. Convert it to wav.")
    stream.codec_context.thread_count = 1  # the workers are the threads
    parts: list[np.ndarray] = []
    shape: tuple[int, int] | None = None
    num_packets = num_frames = waiting = 0
    for packet in file.demux(stream):
        num_packets += packet.size > 0
        for frame in packet.decode():
            shape = shape or (frame.sample_rate, len(frame.layout.channels))
            if (frame.sample_rate, len(frame.layout.channels)) != shape:
                raise UserError(f"{name}: changes its sample rate or its channels within the file; convert it to wav.")
            parts += [part.to_ndarray() for part in to_float.resample(frame)]
            waiting += frame.samples
        if shape and waiting >= _BLOCK_FRAMES:
            yield shape[0], np.concatenate(parts, axis=1).T
            num_frames += waiting
            parts, waiting = [], 0
    if shape is None:
        return
    if parts:
        yield shape[0], np.concatenate(parts, axis=1).T
        num_frames += waiting
    seconds = num_frames / shape[0]
    if stream.frames:  # MP4 lists its packets
        is_cut = num_packets < stream.frames
    else:  # of a raw stream FFmpeg only guesses the length
        is_cut = kind not in (AAC, AMR) and file.duration is not None and seconds < file.duration / 1e6 - SLACK_S
    if is_cut:
        raise UserError(describe_truncation(name, seconds))
