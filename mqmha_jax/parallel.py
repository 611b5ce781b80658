"""Devices: the mesh, and the placement of states and batches on it. Only this file places arrays."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jaxtyping import PyTree

from mqmha_jax.config import MeshConfig
from mqmha_jax.errors import UserError, count_noun

DATA, MODEL = "data", "model"

PROTOTYPES = "prototypes"
"""Parameters of this name have one row per class; they and their optimizer state are split along ``model``."""


def device_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes the mesh ``data x model``.

    The encoder splits the batch over both axes, so no device repeats another's work. For the head, the devices along
    ``model`` gather their embeddings, and each compares them with its slice of the classes.

    Args:
      config: sizes of the axes; -1: all devices that the other axis leaves.
      devices: devices to use; None: all devices of all hosts.

    Raises:
      UserError: the product of the sizes is not the number of devices.
    """
    devices = list(devices or jax.devices())
    data, model = config.data, config.model
    if (data, model) == (-1, -1):
        raise UserError(
            "mesh.data and mesh.model are both -1, but only one of them can take the devices that the other leaves. "
            "mesh.data=1 with mesh.model=-1 splits the classes over all devices."
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
    # Auto: XLA chooses the sharding of everything between a step's inputs and outputs; only the head says its own.
    return jax.make_mesh((data, model), (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto), devices=devices)


def vector_lanes(mesh: Mesh | None = None) -> int:
    """Returns how many channels a vector of the hardware holds: 128 on a TPU, otherwise 1 (no folding).

    Args:
      mesh: the devices; None: JAX's default device.
    """
    device = mesh.devices.flat[0] if mesh else jax.devices()[0]
    return 128 if device.platform == "tpu" else 1


def describe_devices() -> str:
    """Describes the devices in a few words."""
    kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    return f"{jax.device_count()} device{'s'[: jax.device_count() != 1]} ({kinds}) in {jax.process_count()} process" + (
        "es" if jax.process_count() > 1 else ""
    )


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Refuses a batch that does not give every device equally many examples, with UserError."""
    shares = mesh.size * accumulate
    if batch_size % shares:
        parts = f" times {accumulate} parts (optimizer.accumulate)" if accumulate > 1 else ""
        raise UserError(
            f"data.batch_size={batch_size} does not divide by the {count_noun(mesh.size, 'device')}{parts}; "
            f"choose a multiple of {shares}, e.g. {max(shares, batch_size // shares * shares)}."
        )


def check_axes(mesh: Mesh) -> None:
    """Refuses a mesh without the axes of ``device_mesh``, with UserError."""
    if missing := [axis for axis in (DATA, MODEL) if axis not in mesh.axis_names]:
        raise UserError(
            f"The mesh has the axes {', '.join(map(str, mesh.axis_names))} and lacks {' and '.join(missing)}; make it "
            "with device_mesh(MeshConfig(...))."
        )


def check_classes(num_rows: int, mesh: Mesh) -> None:
    """Refuses a mesh whose axis ``model`` does not divide the head's rows, with UserError."""
    slices = mesh.shape[MODEL]
    if num_rows % slices:
        raise UserError(
            f"The head's {num_rows} rows cannot be split into mesh.model={slices} equal slices; use a divisor of "
            f"{num_rows} for mesh.model, such as any power of two up to {num_rows & -num_rows}."
        )


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, jax.P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: the first axis split over all devices."""
    return NamedSharding(mesh, jax.P((DATA, MODEL)))


def local_rows(batch_size: int, mesh: Mesh) -> list[int]:
    """Which rows of a batch lie on the devices of this process, ascending."""
    parts = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return sorted({row for part in parts if part for row in range(*part[0].indices(batch_size))})


def state_sharding(mesh: Mesh, shapes: PyTree) -> PyTree:
    """Returns the sharding of each array of a state.

    Prototypes and their optimizer state are split along ``model``; every device holds all the rest.

    Args:
      mesh: mesh of ``device_mesh``.
      shapes: the state, or its shapes.

    Returns:
      The same tree of shardings.
    """

    def shard(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        # By name, because an optimizer keeps trees of the same names: momentum is then split like what it belongs to.
        by_class = any(getattr(key, "key", None) == PROTOTYPES for key in path) and leaf.ndim > 1
        return NamedSharding(mesh, jax.P(MODEL)) if by_class else replicated_sharding(mesh)

    return jax.tree_util.tree_map_with_path(shard, shapes)


def place_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes one global array per field, split over all devices, from this process's ``local_rows`` of a batch."""
    return {name: place_part(np.asarray(value), batch_sharding(mesh)) for name, value in batch.items()}


def place_seed(seed: int, mesh: Mesh) -> jax.Array:
    """Puts the seed of a run on every device, as uint32: a key uses no more bits."""
    return place_part(np.asarray(seed % 2**32, np.uint32), replicated_sharding(mesh))


def place_part(part: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Makes a global array from this process's rows, as an explicit transfer.

    With several processes, JAX makes the array by calls that its own transfer guard refuses as implicit.
    """
    with jax.transfer_guard_host_to_device("allow"):
        return jax.make_array_from_process_local_data(sharding, part)


def put_rows(rows: Callable[[slice], np.ndarray], shape: tuple[int, ...], sharding: Any) -> jax.Array:
    """Makes a global array split along its first axis; each host makes only the rows of its devices.

    Args:
      rows: slice of the first axis -> these rows.
      shape: shape of the whole array.
      sharding: sharding of the whole array.
    """
    return jax.make_array_from_callback(shape, sharding, lambda index: rows(index[0] if index else slice(None)))


def put_like(values: PyTree, like: PyTree) -> PyTree:
    """Puts values that every host has on the devices, with the shardings of ``like``."""

    def one(value: Any, like: jax.Array) -> jax.Array:
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])

    return jax.tree.map(one, values, like)


def gather(arrays: PyTree, mesh: Mesh) -> PyTree:
    """Returns the same arrays, whole on every device."""
    # A compiled identity becomes one all-gather, and works for arrays that span several hosts.
    return _gather(mesh)(arrays)


@functools.cache
def _gather(mesh: Mesh) -> Callable:
    return jax.jit(lambda arrays: arrays, out_shardings=replicated_sharding(mesh))
