"""What a family of foreign networks is: a name, a test, a configuration from shapes, and a map of variables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flax import linen as nn

from mqmha_jax.config import FbankSpec, ModelConfig
from mqmha_jax.interop.tensors import Source, Tensors

Shapes = Mapping[tuple[str, ...], tuple[int, ...]]
"""Path of a variable of ours, without its collection -> shape."""


class Constructor(NamedTuple):
    """How a toolkit builds a network: ``get_speaker_model(model)(**arguments)`` in WeSpeaker.

    Attributes:
      model: its name there, e.g. ``"ResNet34"``.
      arguments: by name, as a YAML file can hold them.
    """

    model: str
    arguments: dict[str, Any]


class NoConstructorError(Exception):
    """A toolkit has the layers of a network, but nothing that builds them in these sizes. The message says why."""


def _none(config: ModelConfig, shapes: Shapes) -> Mapping[str, tuple[int, ...]]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of foreign network; one file in ``interop/families/``.

    Attributes:
      title: what messages call it, e.g. ``"WeSpeaker ResNet"``.
      encoder: our class that computes it.
      recognize: whether these names of tensors are of this family.
      infer_model: the configuration that the shapes imply, given the number of features per frame, F.
      source: finds where a variable of ours lies, given its path without the collection, e.g. ``("encoder", "stem",
        "norm", "scale")``, and the configuration.
      constants: names and shapes of foreign tensors that change no embedding (such as biases that a softmax cancels),
        given the configuration and the shapes of our variables; an import drops them, an export writes zeros.
      constructor: finds how the toolkit builds the network, given the configuration with every option of encoder and
        pooling and the number of features per frame, F; raises ``NoConstructorError``. None: the toolkit needs none.
      fbank: the toolkit's default features for this family.
      remark: what a user must know before using such a network; an import prints it.
    """

    title: str
    encoder: type[nn.Module]
    recognize: Callable[[Sequence[str]], bool]
    infer_model: Callable[[Tensors, int], ModelConfig]
    source: Callable[[tuple[str, ...], ModelConfig], Source]
    constants: Callable[[ModelConfig, Shapes], Mapping[str, tuple[int, ...]]] = _none
    constructor: Callable[[ModelConfig, int], Constructor] | None = None
    fbank: FbankSpec = field(default_factory=FbankSpec)
    remark: str = ""
