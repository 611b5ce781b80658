"""Embeds the windows of a recording of any length while it is decoded."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError
from mqmha_jax.features.fbank import extract_fbank, window_and_hop
from mqmha_jax.features.speech_evidence import SpeechEvidence, SpeechMeter
from mqmha_jax.features.voicing import HOP_MS
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.store.window_lengths import check_window_lengths

MOST_AT_ONCE = 64
"""Most windows in a batch."""

SECONDS_AT_ONCE = 96
"""Length of all windows of a batch together, unless a single window is longer."""


class Windows(NamedTuple):
    """The windows of a recording; window w starts at ``w * hop_s``.

    Attributes:
      vectors: embeddings ``[W, E]``, not normalised.
      window_s: length of a window; the last one may be shorter.
      hop_s: from the start of one window to the next.
      speech: which frames of ``HOP_MS`` are speech.
      evidence: the speech in the whole recording.
    """

    vectors: Float32[np.ndarray, "W E"]
    window_s: float
    hop_s: float
    speech: Bool[np.ndarray, " t"]
    evidence: SpeechEvidence

    def speech_s(self) -> Float64[np.ndarray, " W"]:
        """Seconds of speech in each window."""
        summed = np.concatenate([[0], np.cumsum(self.speech)]) * (HOP_MS / 1000)
        start = np.arange(len(self.vectors)) * self.hop_s
        first, last = (np.round(t * 1000 / HOP_MS).astype(np.int64) for t in (start, start + self.window_s))
        return summed[np.minimum(last, len(self.speech))] - summed[np.minimum(first, len(self.speech))]

    def lengths_s(self) -> Float64[np.ndarray, " W"]:
        """Length of each window in seconds; the last one may be shorter."""
        start = np.arange(len(self.vectors)) * self.hop_s
        return np.minimum(self.window_s, len(self.speech) * (HOP_MS / 1000) - start)


def embed_windows(
    encoder: SpeakerEncoder, name: str, blocks: Iterable[Float32[np.ndarray, " _"]], window_s: float, hop_s: float
) -> Windows:
    """Embeds overlapping windows of a recording; only their embeddings stay in memory.

    Args:
      encoder: the network.
      name: of the recording, for messages.
      blocks: samples at the network's sample rate, such as ``stream_audio`` yields.
      window_s: length of a window.
      hop_s: from the start of one window to the next; both are rounded to whole frames.

    Raises:
      UserError: the lengths are out of range, or the recording is shorter than one frame of the filterbank.
    """
    check_window_lengths(window_s, hop_s)
    spec = encoder.config.fbank
    window, hop = (round(seconds * 1000 / spec.frame_shift_ms) for seconds in (window_s, hop_s))
    rows = max(1, min(MOST_AT_ONCE, int(SECONDS_AT_ONCE / window_s)))
    meter = SpeechMeter(spec.sample_rate_hz)
    batches = _batches(_frames(spec, name, blocks, meter, rows * hop), rows, window, hop)
    vectors = [encoder.embed_frames(fbank, lengths)[:count] for fbank, lengths, count in batches]
    shift_s = spec.frame_shift_ms / 1000
    return Windows(np.concatenate(vectors), window * shift_s, hop * shift_s, meter.find_speech(), meter.evidence())


def _frames(
    spec: FbankSpec, name: str, blocks: Iterable[np.ndarray], meter: SpeechMeter, count: int
) -> Iterator[Float32[np.ndarray, "T F"]]:
    """Frames of the filterbank in pieces of ``count``; the last one is shorter, or empty."""
    frame, shift = window_and_hop(spec)
    # Frames around their samples begin before these: a piece then repeats some frames before it and leaves them out.
    before = 0 if spec.snip_edges else -(-(frame - shift) // (2 * shift))
    repeated = 0
    waiting, first = np.zeros(0, np.float32), True
    for block in blocks:
        meter.add(block)
        waiting = np.concatenate([waiting, block])
        while len(waiting) > (needed := (repeated + count - 1) * shift + frame):
            yield extract_fbank(waiting[:needed], spec)[repeated : repeated + count]
            waiting, first = waiting[(repeated + count - before) * shift :], False
            repeated = before
    if first or len(waiting) >= frame:
        try:
            frames = extract_fbank(waiting, spec)
        except UserError as error:  # of a recording that is shorter than a frame
            raise UserError(f"{name}: {error}") from error
        yield frames[repeated:]


def _batches(
    pieces: Iterator[Float32[np.ndarray, "_ F"]], rows: int, window: int, hop: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Windows ``[rows, window, F]`` with their numbers of frames, and how many of the rows are windows."""
    frames: np.ndarray | None = None
    for piece in pieces:
        frames = piece if frames is None else np.concatenate([frames, piece])
        while len(frames) > (rows - 1) * hop + window:
            yield _batch(frames, rows, rows, window, hop)
            frames = frames[rows * hop :]
    assert frames is not None
    # The last window is the first that reaches the end; what would start after it lies within it.
    count = 1 + max(0, -(-(len(frames) - window) // hop))
    yield _batch(frames, count, rows, window, hop)


def _batch(
    frames: Float32[np.ndarray, "T F"], count: int, rows: int, window: int, hop: int
) -> tuple[np.ndarray, np.ndarray, int]:
    starts = [row * hop if row < count else 0 for row in range(rows)]  # filler: the first window again
    fbank = np.zeros((rows, window, frames.shape[1]), np.float32)
    lengths = np.zeros(rows, np.int32)
    for row, start in enumerate(starts):
        part = frames[start : start + window]
        fbank[row, : len(part)], lengths[row] = part, len(part)
    return fbank, lengths, count
