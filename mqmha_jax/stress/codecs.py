"""Codes and decodes speech in memory with FFmpeg's libraries, without other programs."""

import io
from typing import Any, NamedTuple

import numpy as np
import soxr
from jaxtyping import Float, Float32

from mqmha_jax.features.audio import read_audio_bytes


class Codec(NamedTuple):
    """A way to code speech.

    Attributes:
      encoder: FFmpeg's name of the encoder.
      container: FFmpeg's name of a file format that holds its packets.
      bit_rate: bits per second; 0: the encoder has only one.
      rate_hz: sample rate that it codes; None: that of the speech.
    """

    encoder: str
    container: str
    bit_rate: int = 0
    rate_hz: int | None = None


def has_encoder(codec: Codec) -> bool:
    """Whether this build of PyAV has the encoder."""
    import av  # here and below: its libraries take a while to load

    try:
        av.codec.Codec(codec.encoder, "w")
    except ValueError:  # what PyAV's "unknown codec" is
        return False
    return True


def code(waveform: Float[np.ndarray, " n"], rate_hz: int, codec: Codec) -> Float32[np.ndarray, " n"]:
    """Sends speech through a codec.

    Args:
      waveform: samples; what exceeds full scale is clipped, as by any encoder.
      rate_hz: sample rate of the waveform and of the result.
      codec: the way to code it.

    Returns:
      What is heard behind it, with the length of the input.
    """
    coded_hz = codec.rate_hz or rate_hz
    line = soxr.resample(np.clip(waveform, -1, 1).astype(np.float32), rate_hz, coded_hz)
    heard = read_audio_bytes(_encode(line, coded_hz, codec), codec.encoder, rate_hz)[: len(waveform)]
    return np.pad(heard, (0, len(waveform) - len(heard)))


def _encode(samples: Float32[np.ndarray, " n"], rate_hz: int, codec: Codec) -> bytes:
    import av

    content = io.BytesIO()
    with av.open(content, "w", format=codec.container) as file:
        stream: Any = file.add_stream(codec.encoder, rate=rate_hz, layout="mono")
        if codec.bit_rate:
            stream.bit_rate = codec.bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return content.getvalue()
