"""The one check that embeddings are numbers, wherever they come from."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mqmha_jax.errors import UserError


def require_finite(
    vectors: Float[np.ndarray, "N E"], ids: Sequence[str] | None = None, *, what: str = "embeddings"
) -> None:
    """Refuses embeddings of which one is not finite.

    Args:
      vectors: ``[N, E]``.
      ids: names of the N utterances, for the message; None: they are counted from 1.
      what: what to call the embeddings in the message.

    Raises:
      UserError: one is nan or infinite.
    """
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if broken.size:
        first = f"number {broken[0] + 1}" if ids is None else f"that of {ids[broken[0]]!r}"
        raise UserError(
            f"{broken.size} of the {len(vectors)} {what} are not finite, the first is {first}; leave them out, or "
            "check their audio and that the training of the network did not diverge."
        )
