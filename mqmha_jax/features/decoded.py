"""What a decoder gives: the samples of a file in blocks, before anything is chosen, mixed or resampled."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

BLOCK_SAMPLES = 1 << 20
"""Samples of all channels that are decoded at a time: headers may announce billions."""

SLACK_S = 0.05
"""A header may announce this much more than there is; more than one packet of Opus."""


class Decoded(NamedTuple):
    """A recording that is being decoded.

    Attributes:
      rate_hz: sample rate.
      num_channels: of each block.
      first: number of the first sample that the blocks hold; they hold all later ones.
      blocks: samples, in [-1, 1] for integer formats; raises ``UserError`` where the file is damaged or cut off.
    """

    rate_hz: int
    num_channels: int
    first: int
    blocks: Iterator[Float32[np.ndarray, "n channels"]]


def describe_truncation(name: str, seconds: float) -> str:
    """The sentence about a file that ends too early."""
    return (
        f"{name}: is truncated: {seconds:.2f} s of audio are there, its header announces more. Copy or download it "
        "again."
    )


def undecodable(name: str, kind: str | None) -> str:
    """The sentence about a file that a decoder refuses: by what its first bytes say, not in the decoder's words."""
    if kind is None:
        return (
            f"{name}: cannot be decoded as audio: it does not begin like any kind of audio file that is read. Either "
            "it is another kind of file, or its beginning is damaged; copy or download it again."
        )
    return (
        f"{name}: cannot be decoded as audio: it begins like {kind}, but the rest is cut off or damaged, another kind "
        "of file, or coded in a way that is not read. Copy or download it again, or convert it to wav."
    )
