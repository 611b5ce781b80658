"""The records that pass between the parts of the system.

Axis letters, the same everywhere: ``B`` batch, ``n`` waveform samples, ``T`` input frames, ``t`` encoder frames,
``F`` mel bins, ``D`` encoder channels (frequency folded in), ``H`` heads, ``Q`` queries, ``S`` pooled statistics,
``E`` embedding, ``C`` speakers (classes), ``K`` sub-centres, ``N`` utterances, ``M`` trials.
"""

from collections.abc import Sequence
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
from jaxtyping import Bool, Float, Float16, Int32, UInt32


class Batch(TypedDict):
    """One training batch as the pipeline yields it; NumPy on the host, the same names on the device.

    ``noise`` and ``decay`` exist only where the step adds noise and rooms; ``T`` then includes the frames of context.
    """

    fbank: Float[np.ndarray, "B T F"]
    num_frames: Int32[np.ndarray, " B"]
    speaker: Int32[np.ndarray, " B"]
    example: UInt32[np.ndarray, " B"]
    noise: NotRequired[Float16[np.ndarray, "B T F"]]
    decay: NotRequired[Float16[np.ndarray, "B L F"]]


class Embeddings(NamedTuple):
    """Embeddings of utterances: ``vectors[i]`` (float32, not normalised) belongs to ``ids[i]``."""

    ids: tuple[str, ...]
    vectors: Float[np.ndarray, "N E"]

    def __repr__(self) -> str:
        """Their number and size, and the first ids; the arrays themselves would fill the screen."""
        number, size = np.shape(self.vectors)
        return f"<Embeddings: {number:,} of size {size}: {_first_few(self.ids)}>"


class Trials(NamedTuple):
    """A trial list: ``target[i]`` says whether ``enrol[i]`` and ``test[i]`` have the same speaker."""

    enrol: tuple[str, ...]
    test: tuple[str, ...]
    target: Bool[np.ndarray, " M"]

    def __repr__(self) -> str:
        """Their numbers and the first pairs."""
        pairs = [f"{one} {other}" for one, other in zip(self.enrol[:4], self.test[:4], strict=False)]
        num_targets = np.count_nonzero(self.target)
        return f"<Trials: {num_targets:,} target, {len(self.target) - num_targets:,} nontarget: {_first_few(pairs)}>"


def _first_few(names: Sequence[str]) -> str:
    return ", ".join([*map(repr, names[:3]), *["..."] * (len(names) > 3)])
