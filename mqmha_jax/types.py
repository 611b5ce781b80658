"""The records that pass between the parts of the system.

Axis letters, the same everywhere: ``B`` batch, ``n`` waveform samples, ``T`` input frames, ``t`` encoder frames,
``F`` mel bins, ``D`` encoder channels (frequency folded in), ``H`` heads, ``Q`` queries, ``S`` pooled statistics,
``E`` embedding, ``C`` speakers (classes), ``K`` sub-centres, ``N`` utterances, ``M`` trials.
"""

from typing import NamedTuple, TypedDict

import numpy as np
from jaxtyping import Bool, Float, Int32, UInt32


class Batch(TypedDict):
    """One training batch as the pipeline yields it; NumPy on the host, the same names on the device."""

    fbank: Float[np.ndarray, "B T F"]
    num_frames: Int32[np.ndarray, " B"]
    speaker: Int32[np.ndarray, " B"]
    example: UInt32[np.ndarray, " B"]


class Embeddings(NamedTuple):
    """Embeddings of utterances: ``vectors[i]`` (float32, not normalised) belongs to ``ids[i]``."""

    ids: tuple[str, ...]
    vectors: Float[np.ndarray, "N E"]


class Trials(NamedTuple):
    """A trial list: is the speaker of ``enrol[i]`` the speaker of ``test[i]``? ``target[i]`` knows."""

    enrol: tuple[str, ...]
    test: tuple[str, ...]
    target: Bool[np.ndarray, " M"]
