"""Devices: the mesh, and how state and batches lie on it. The only file that places an array."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jaxtyping import PyTree

from mqmha_jax.config import MeshConfig
from mqmha_jax.errors import UserError

DATA, MODEL = "data", "model"

PROTOTYPES = "prototypes"
"""Parameters of this name have one row per class and are cut along ``model``, their optimizer state with them."""


def device_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh ``data x model``.

    The batch is cut over both axes for the encoder, so no device repeats another's work; for the head the embeddings
    of devices along ``model`` are gathered, and each of them compares these with its slice of the classes.

    Args:
      config: sizes of the axes; -1 stands for the devices that the other axis leaves.
      devices: to use; None: all devices of all hosts.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    devices = list(devices or jax.devices())
    data, model = config.data, config.model
    if (data, model) == (-1, -1):
        raise UserError(
            "mesh.data and mesh.model are both -1, but only one of them can be what the other leaves. "
            "mesh.data=1 with mesh.model=-1 cuts the classes over all devices."
        )
    if data == -1:
        data = len(devices) // model
    elif model == -1:
        model = len(devices) // data
    if data * model != len(devices):
        raise UserError(
            f"mesh.data={config.data} times mesh.model={config.model} is not the number of devices, {len(devices)}. "
            "Give -1 for the axis that takes the rest, and a divisor of the devices for the other."
        )
    return jax.make_mesh((data, model), (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto), devices=devices)


def vector_lanes(mesh: Mesh | None = None) -> int:
    """How many channels a network should put side by side: 128 on a TPU, whose vectors are that wide, otherwise 1.

    Args:
      mesh: that it runs on; None: JAX's default device.
    """
    device = mesh.devices.flat[0] if mesh else jax.devices()[0]
    return 128 if device.platform == "tpu" else 1


def describe_devices() -> str:
    """What this program runs on, in a few words."""
    kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    return f"{jax.device_count()} device{'s'[: jax.device_count() != 1]} ({kinds}) in {jax.process_count()} process" + (
        "es" if jax.process_count() > 1 else ""
    )


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raises UserError unless every device gets the same number of examples in every part of a batch."""
    shares = mesh.size * accumulate
    if batch_size % shares:
        parts = f" times {accumulate} parts (optimizer.accumulate)" if accumulate > 1 else ""
        raise UserError(
            f"data.batch_size={batch_size} does not divide by the {mesh.size} devices{parts}; "
            f"choose a multiple of {shares}, e.g. {max(shares, batch_size // shares * shares)}."
        )


def check_classes(num_rows: int, mesh: Mesh) -> None:
    """Raises UserError unless the head's rows can be cut along ``model``."""
    slices = mesh.shape[MODEL]
    if num_rows % slices:
        raise UserError(
            f"The head's {num_rows} rows can not be cut into mesh.model={slices} equal slices; use a power of two up "
            "to 256 for mesh.model."
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, jax.P())


def over_all_devices(mesh: Mesh) -> NamedSharding:
    """The first axis cut over all devices, as batches are."""
    return NamedSharding(mesh, jax.P((DATA, MODEL)))


def state_sharding(mesh: Mesh, shapes: PyTree) -> PyTree:
    """Where each array of a state lies: prototypes and what belongs to them along ``model``, all else everywhere.

    Args:
      mesh: of ``device_mesh``.
      shapes: the state, or its shapes.

    Returns:
      The same tree of shardings.
    """

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        by_class = any(getattr(key, "key", None) == PROTOTYPES for key in path) and leaf.ndim > 1
        return NamedSharding(mesh, jax.P(MODEL)) if by_class else replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, shapes)


def place_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch as part of one global array per field, cut over all devices."""
    return {name: place_part(np.asarray(value), over_all_devices(mesh)) for name, value in batch.items()}


def place_seed(seed: int, mesh: Mesh) -> jax.Array:
    """The seed of a run on every device, uint32: a key takes no more bits than these."""
    return place_part(np.asarray(seed % 2**32, np.uint32), replicated(mesh))


def place_part(part: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """This process's rows of one global array, as an explicit transfer.

    Where there are several processes, JAX makes the array by calls that its transfer guard takes for accidents.
    """
    with jax.transfer_guard_host_to_device("allow"):
        return jax.make_array_from_process_local_data(sharding, part)


def lay_rows(rows: Callable[[slice], np.ndarray], shape: tuple[int, ...], sharding: Any) -> jax.Array:
    """An array cut along its first axis, of which each host makes only the rows of its devices.

    Args:
      rows: from a slice of the first axis to these rows.
      shape: of the whole.
      sharding: of the whole.
    """
    return jax.make_array_from_callback(shape, sharding, lambda index: rows(index[0] if index else slice(None)))


def lay(values: PyTree, like: PyTree) -> PyTree:
    """Values that every host has, laid over the devices as the arrays of ``like`` are."""

    def one(value: Any, like: jax.Array) -> jax.Array:
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])

    return jax.tree.map(one, values, like)


def gather(arrays: PyTree, mesh: Mesh) -> PyTree:
    """The same arrays, whole on every device."""
    return _gather(mesh)(arrays)


@functools.cache
def _gather(mesh: Mesh) -> Callable:
    return jax.jit(lambda arrays: arrays, out_shardings=replicated(mesh))
