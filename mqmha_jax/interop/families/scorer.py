"""How toolkits hold the scorer of an attention pooling: its layers for one query and one head, and its last bias."""

from mqmha_jax.interop.family import Shapes
from mqmha_jax.interop.tensors import Source, pointwise

SCORE = ("pooling", "score", "kernel")


def single_head(name: str, leaf: str) -> Source:
    """A leaf of a scorer's layer where there is one query and one head, whose axes the toolkit leaves out."""
    layer = pointwise(name, leaf)
    return layer._replace(names=[[layer.names]])


def score_biases(shapes: Shapes, *names: str) -> dict[str, tuple[int, ...]]:
    """Biases of the layer that gives the scores: the same for every frame, so the softmax over frames cancels them.

    Args:
      shapes: of our variables; without a scorer among them there is no bias.
      names: of the toolkit's tensors.
    """
    return dict.fromkeys(names, shapes[SCORE][-1:]) if SCORE in shapes else {}
