"""Converts the tensors of a foreign network to a model configuration and its variables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mqmha_jax.config import ModelConfig
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.interop.families import FAMILIES
from mqmha_jax.interop.family import Shapes
from mqmha_jax.interop.tensors import Tensors
from mqmha_jax.models.speaker_net import build_speaker_net

_NUM_FRAMES = 16  # to find the shapes of variables; no result depends on it
_MOST_NAMES = 8  # in a message


class ImportedModel(NamedTuple):
    """A foreign model in our terms: ``build_speaker_net(config).apply(variables, fbank, mask, train=False)``.

    Attributes:
      family: its name in ``FAMILIES``.
      config: the model that the shapes of its tensors imply.
      variables: ``{"params": ..., "batch_stats": ...}``, float32.
    """

    family: str
    config: ModelConfig
    variables: dict[str, Any]


def recognize_families(names: Sequence[str]) -> list[str]:
    """Finds the families that use these names, the likeliest first.

    There are several if toolkits store the same network under the same names.

    Args:
      names: of the tensors.

    Raises:
      UserError: no known family uses them.
    """
    found = [name for name, family in FAMILIES.items() if family.recognize(names)]
    if not found:
        raise UserError(
            f"The checkpoint belongs to no known family ({', '.join(FAMILIES)}): its tensors are {_some(names)}. If "
            "it should be one of them, name it with --family to learn what it lacks."
        )
    return found


def import_model(
    state: Mapping[str, np.ndarray], *, family: str | None = None, num_features: int | None = None
) -> ImportedModel:
    """Converts the tensors of a foreign network.

    Args:
      state: foreign names -> arrays, as ``read_checkpoint_file`` gives them.
      family: name in ``FAMILIES``; None: the likeliest by the tensors' names.
      num_features: values per frame that the model was trained on, F; None: as in the family's toolkit.

    Returns:
      The family, the configuration and the variables.

    Raises:
      UserError: the family is unknown; or tensors are missing, left over, or of another shape than the rest implies,
        and the message names them.
    """
    family = family or recognize_families(list(state))[0]
    if family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    kind = FAMILIES[family]
    num_features = num_features or kind.fbank.num_features
    tensors = Tensors(state, kind.title)
    config = kind.infer_model(tensors, num_features)
    expected = variable_shapes(config, num_features)
    variables = {}
    for path, leaf in expected.items():
        source = kind.source(path[1:], config)
        value = source.read(tensors)
        if value.shape != leaf.shape:
            raise UserError(
                f"{_names(source.names)} gives {'/'.join(path[1:])} the shape {value.shape}, but the other tensors and "
                f"{num_features} features per frame imply {leaf.shape}."
            )
        variables[path] = jnp.asarray(value, leaf.dtype)
    for name, shape in kind.constants(config, drop_collections(expected)).items():
        if tensors.take(name).shape != shape:
            raise UserError(f"The tensor {name!r} must have the shape {shape} to fit the others.")
    if tensors.names:
        raise UserError(f"These tensors have no place in a {kind.title} like this one: {_some(tensors.names)}.")
    return ImportedModel(family, config, traverse_util.unflatten_dict(variables))


def variable_shapes(config: ModelConfig, num_features: int) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """Returns path, with its collection, and shape of each variable of a model."""
    net = build_speaker_net(config)
    fbank = jax.ShapeDtypeStruct((1, _NUM_FRAMES, num_features), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, _NUM_FRAMES), bool)
    shapes = jax.eval_shape(lambda fbank, mask: net.init(jax.random.key(0), fbank, mask, train=False), fbank, mask)
    return traverse_util.flatten_dict(shapes)


def drop_collections(variables: Mapping[tuple[str, ...], Any]) -> Shapes:
    """Removes the collection from each path, as a family expects."""
    return {path[1:]: tuple(leaf.shape) for path, leaf in variables.items()}


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _names(names: Any) -> str:
    if isinstance(names, str):
        return f"The tensor {names!r}"
    flat = np.asarray(names).ravel()
    return f"The tensor {flat[0]!r}" if len(flat) == 1 else f"The stack of {flat[0]!r} to {flat[-1]!r}"
