"""How frames become the bytes of a record: as float16, or in 8 bits with a straight line per utterance and bin.

8 bits: bin ``f`` of an utterance is stored as ``q = round((x - offset_f) / scale_f)`` with ``offset_f`` the smallest
and ``offset_f + 255 scale_f`` the largest value that the bin takes in the utterance. The two vectors stand in every
record, so that a crop needs no other read. A bin that never changes has scale 0 and comes back exactly.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float16, Float32, UInt8

Coding = Literal["float16", "uint8"]

LEVELS = 255
"""Steps between the smallest and the largest value of a bin."""


class CodedFbank(NamedTuple):
    """Frames in 8 bits.

    Attributes:
      code: ``q``.
      scale: size of one step, in log-mel units.
      offset: value of ``q = 0``.
    """

    code: UInt8[np.ndarray, "T F"]
    scale: Float32[np.ndarray, " F"]
    offset: Float32[np.ndarray, " F"]


def encode(fbank: Float[np.ndarray, "T F"]) -> CodedFbank:
    """Frames of a whole utterance in 8 bits; the error is at most half a step of the bin.

    Args:
      fbank: finite log-mel frames, T > 0.
    """
    frames = fbank.astype(np.float32)
    offset = frames.min(axis=0)
    scale = (frames.max(axis=0) - offset) / np.float32(LEVELS)
    step = np.where(scale > 0, scale, np.float32(1))
    code = np.rint((frames - offset[None]) / step[None]).clip(0, LEVELS).astype(np.uint8)
    return CodedFbank(code, scale, offset)


def decode(coded: CodedFbank) -> Float16[np.ndarray, "T F"]:
    """The frames that ``encode`` coded, as the rest of the program takes them."""
    frames = coded.code.astype(np.float32)
    frames *= coded.scale[None]
    frames += coded.offset[None]
    return frames.astype(np.float16)


def frame_features(coding: Coding, num_features: int) -> dict[str, Any]:
    """The TensorFlow Datasets features that hold a record's frames.

    Args:
      coding: how they are stored.
      num_features: F.
    """
    from tensorflow_datasets import features  # here: the reader needs only its record parser

    # Without encoding="bytes" float16 is stored as float32 and bytes as 64-bit integers.
    if coding == "float16":
        return {"fbank": features.Tensor(shape=(None, num_features), dtype=np.float16, encoding="bytes")}
    per_bin = features.Tensor(shape=(num_features,), dtype=np.float32, encoding="bytes")
    return {
        "fbank": features.Tensor(shape=(None, num_features), dtype=np.uint8, encoding="bytes"),
        "scale": per_bin,
        "offset": per_bin,
    }


def parse_frames(feature: Any, coding: Coding, length: int) -> Float16[np.ndarray, "T F"]:
    """The frames of a record.

    Args:
      feature: the parsed record's map of features.
      coding: how the frames are stored.
      length: T, how many there must be.

    Raises:
      Exception: of any kind, if the record is damaged.
    """
    stored = feature["fbank"].bytes_list.value[0]
    if coding == "float16":
        return np.frombuffer(stored, np.float16).reshape(length, -1)
    scale, offset = (np.frombuffer(feature[name].bytes_list.value[0], np.float32) for name in ("scale", "offset"))
    return decode(CodedFbank(np.frombuffer(stored, np.uint8).reshape(length, -1), scale, offset))
