"""The records that pass between the parts of the system.

Axis letters, the same everywhere: ``B`` batch, ``n`` waveform samples, ``T`` input frames, ``t`` encoder frames,
``F`` mel bins, ``D`` encoder channels (frequency folded in), ``H`` heads, ``Q`` queries, ``S`` pooled statistics,
``E`` embedding, ``C`` speakers (classes), ``K`` sub-centres, ``N`` utterances, ``M`` trials.
"""

from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
from jaxtyping import Bool, Float, Float16, Int32, UInt32


class Batch(TypedDict):
    """One training batch as the pipeline yields it; NumPy on the host, the same names on the device.

    Noise and room of each example are there where the step adds them; ``T`` then counts the frames of context too.
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


class Trials(NamedTuple):
    """A trial list: is the speaker of ``enrol[i]`` the speaker of ``test[i]``? ``target[i]`` knows."""

    enrol: tuple[str, ...]
    test: tuple[str, ...]
    target: Bool[np.ndarray, " M"]
