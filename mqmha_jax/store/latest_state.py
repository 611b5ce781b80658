"""The last complete state of a store, kept in memory until the files change."""

import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from mqmha_jax.errors import UserError
from mqmha_jax.store.files import Network, Stored, read_blocks, read_generation, read_state
from mqmha_jax.store.search import Centres, compute_centres


class State(NamedTuple):
    """A state of the files, and what a search needs of it."""

    stored: Stored
    centres: Centres


class LatestState:
    """Reads a store again after a change by whatever process; for any number of threads."""

    def __init__(self, path: Path, network: Network, mean: Float32[np.ndarray, " E"]) -> None:
        """Reads nothing yet.

        Args:
          path: of the store.
          network: made the embeddings.
          mean: subtracted from embeddings before they are compared.
        """
        self.network = network
        self._path, self._mean = path, mean
        self._kept: tuple[tuple[int, int], State] | None = None
        self._loading = threading.Lock()

    def read(self) -> State:
        """The last complete state.

        Raises:
          UserError: the files cannot be read, or are of another network now.
        """
        with self._loading:
            mark = read_generation(self._path)
            if self._kept is None or self._kept[0] != mark:
                self._kept = None  # so that two states are never in memory
                stored = read_state(self._path)
                if difference := self.network.difference(stored.network):
                    raise UserError(f"{self._path} was replaced by a store of another network: {difference}.")
                centres = compute_centres(read_blocks(stored.vectors), stored.roster, self._mean)
                self._kept = mark, State(stored, centres)
            return self._kept[1]
