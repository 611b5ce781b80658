"""The trees of a checkpoint: three, so that extraction reads the network alone and fine-tuning network and head."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from mqmha_jax.runs.state import TrainState

NETWORK, HEAD, TRAINING = "network", "head", "training"


def split_state(state: TrainState) -> dict[str, PyTree]:
    """The three trees that a checkpoint of this state holds."""
    latest = {"params": state.params["net"], "batch_stats": state.batch_stats}
    return {
        NETWORK: state.network(),
        HEAD: state.params["head"],
        TRAINING: {
            "step": state.step,
            "latest": latest if state.average else {},  # where the network to use is an average of it
            "opt_state": state.opt_state,
            "loss_state": state.loss_state,
            "counters": state.counters,
        },
    }


def describe_array(array: Any) -> jax.ShapeDtypeStruct:
    """Shape, type and sharding of an array, which Orbax restores to."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def place_on_one_device(tree: PyTree) -> PyTree:
    """The same shapes and types, each whole on this process's first device."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def shapes_by_path(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Path -> shape; named tuples, lists and dictionaries read the same, as metadata keeps no types."""
    flat: dict[str, tuple[int, ...]] = {}

    def visit(node: Any, path: str) -> None:
        if hasattr(node, "shape"):
            flat[path] = tuple(node.shape)
            return
        if hasattr(node, "_asdict"):
            node = node._asdict()
        items = node.items() if isinstance(node, Mapping) else enumerate(node or ())
        for key, child in items:
            visit(child, f"{path}/{key}" if path else str(key))

    visit(tree, "")
    return flat
