"""Devices: the mesh, and how the state and the batches lie on it. The only file that names a device."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from mqmha_jax.errors import UserError
from mqmha_jax.train.state import TrainState
from mqmha_jax.types import Batch


def data_mesh(batch_size: int) -> Mesh:
    """A mesh of all devices of all hosts along ``data``.

    Args:
      batch_size: examples per step over all devices.

    Raises:
      UserError: the batch does not divide by the number of devices.
    """
    devices = jax.device_count()
    if batch_size % devices:
        raise UserError(
            f"data.batch_size={batch_size} does not divide by the {devices} devices; "
            f"choose a multiple of {devices}, e.g. {max(devices, batch_size // devices * devices)}."
        )
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))


def jit_step(step: Callable, mesh: Mesh) -> Callable:
    """Compile ``(state, batch) -> (state, metrics)``: the batch split over ``data``, the state on every device.

    The old state's memory is given to the new one.
    """
    everywhere, split = NamedSharding(mesh, jax.P()), NamedSharding(mesh, jax.P("data"))
    return jax.jit(step, in_shardings=(everywhere, split), out_shardings=(everywhere, everywhere), donate_argnums=(0,))


def place_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch as part of one global array per field, split over ``data``."""
    split = NamedSharding(mesh, jax.P("data"))
    return {name: jax.make_array_from_process_local_data(split, np.asarray(value)) for name, value in batch.items()}


def replicate(state: TrainState, mesh: Mesh) -> TrainState:
    """The same state on every device."""
    return jax.device_put(state, NamedSharding(mesh, jax.P()))
