"""Audio files of a few kilobytes, of every kind, for miniatures of corpora."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 16_000
CODECS = {".m4a": "aac", ".mp4": "aac", ".aac": "aac", ".webm": "libopus"}


def write_audio(path: Path, samples: np.ndarray | None = None, rate: int = RATE) -> Path:
    """Writes samples ``[n]`` or ``[n, channels]``; if there are none, a short noise that depends on the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if samples is None:
        samples = 0.1 * np.random.default_rng(list(path.name.encode())).standard_normal(RATE // 10)
    if path.suffix in CODECS:
        encode(path, samples, rate)
    elif path.suffix == ".opus":
        soundfile.write(path, samples, rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate, subtype="FLOAT" if np.isnan(samples).any() else None)
    return path


def write_all(root: Path, names: Iterable[str]) -> None:
    """Writes a short noise under each name."""
    for name in names:
        write_audio(root / name)


def encode(path: Path, samples: np.ndarray, rate: int = RATE, *, video: bool = False, **container_options: str) -> None:
    """Encodes audio in formats that libsndfile cannot write."""
    channels = np.atleast_2d(samples.T).astype(np.float32)
    container_format = "adts" if path.suffix == ".aac" else None
    with av.open(str(path), "w", format=container_format, options=container_options) as file:
        pictures = file.add_stream("mpeg4", rate=10) if video else None
        if pictures is not None:
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
        layout = "mono" if len(channels) == 1 else "stereo"
        stream = file.add_stream(CODECS[path.suffix], rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.pts = 0
        if pictures is not None:
            for number in range(5):
                picture = av.VideoFrame(32, 32, "yuv420p")
                picture.pts = number
                file.mux(pictures.encode(picture))
            file.mux(pictures.encode(None))
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
