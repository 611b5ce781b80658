"""The inter-topK penalty: which other speakers are near enough to be pushed further (arXiv 2110.05042)."""

from typing import NamedTuple

from jax import Array
from jaxtyping import Bool, Float, Int

from mqmha_jax.errors import UserError


class TopNegatives(NamedTuple):
    """The ``k`` other speakers with the largest cosine, nearest first; ties go to the lower class. No gradient.

    Attributes:
      cosine: of these speakers.
      speaker: their classes.
      sum_of_all: the sum of the cosines of all other speakers, which the search meets on its way.
    """

    cosine: Float[Array, "B k"]
    speaker: Int[Array, "B k"]
    sum_of_all: Float[Array, " B"]

    def contain(self, cosine: Float[Array, "B c"], speaker: Int[Array, " c"]) -> Bool[Array, "B c"]:
        """Whether a class is among them, told by its cosine alone: no scatter and no list of members.

        The last of them is told by its number, because a cosine that is computed again may differ in its last digit.

        Args:
          cosine: of a slice of the classes. The target's own entry must be ignored by the caller.
          speaker: their class numbers.

        Returns:
          True for exactly ``k`` of the classes other than the target.
        """
        last_cosine, last_speaker = self.cosine[:, -1:], self.speaker[:, -1:]
        tied_before = (cosine == last_cosine) & (speaker[None, :] < last_speaker)
        return (cosine > last_cosine) | tied_before | (speaker[None, :] == last_speaker)


def check_top_k(top_k: int, num_speakers: int) -> None:
    """Raises UserError unless ``0 <= top_k < num_speakers``."""
    if num_speakers < 2:
        raise UserError(f"The loss tells speakers apart and needs at least 2 of them; the data has {num_speakers}.")
    if not 0 <= top_k < num_speakers:
        raise UserError(
            f"loss.top_k must be below the number of speakers ({num_speakers}), because it counts the other speakers "
            f"that are penalised, but it is {top_k}. Use 0 (no penalty) to {num_speakers - 1}."
        )
