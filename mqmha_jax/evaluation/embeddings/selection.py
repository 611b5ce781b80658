"""Some of the utterances of a directory of shards."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float16

from mqmha_jax.data.joined_shards import TrainingShards


class Selection:
    """Utterances of shards as a source for ``embed``, in a given order.

    Attributes:
      utterances: their ids.
      num_frames: their lengths.
    """

    def __init__(
        self, shards: TrainingShards, indices: Sequence[int] | np.ndarray, *, max_frames: int | None = None
    ) -> None:
        """Selects utterances.

        Args:
          shards: the directory.
          indices: of the utterances.
          max_frames: cut utterances to this many frames; None keeps whole utterances.
        """
        self._shards = shards
        self._indices = [int(i) for i in indices]
        self.utterances = tuple(shards.utterance(i) for i in self._indices)
        lengths = shards.num_frames[self._indices]
        self.num_frames = lengths if max_frames is None else np.minimum(lengths, max_frames)

    def fbank(self, i: int, /) -> Float16[np.ndarray, "T F"]:
        """Log-mel frames of one of them."""
        return self._shards.crop(self._indices[i], 0, int(self.num_frames[i]))


def select_utterances(shards: TrainingShards, utterances: Collection[str]) -> Selection:
    """The utterances with these ids, each once, in the order of the shards."""
    wanted = set(utterances)
    return Selection(shards, [i for i, name in enumerate(shards.utterances) if name in wanted])
