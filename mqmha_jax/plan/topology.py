"""TPU slices by the names that users know, and their devices without the hardware."""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Iterable

import jax
import numpy as np
from jaxtyping import Int

from mqmha_jax.errors import UserError, missing_extra
from mqmha_jax.plan.chips import Chip, find_chip

_SHAPES_2D = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
# Shapes below one cube of 4 x 4 x 4 chips, and the shape of a name that gives only a number. Above one cube every shape
# whose axes are multiples of four is valid.
_SHAPES_3D = (
    *((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8), (8, 8, 8)),
    *((8, 8, 16), (8, 16, 16), (16, 16, 16), (16, 16, 24)),
)
_NAME = re.compile(r"(?P<chip>v\d+\w*)(-(?P<size>\d+)|:(?P<shape>\d+(x\d+)+))")


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: chips on a grid.

    Attributes:
      name: the user's name.
      chip: its chip.
      shape: chips along each axis.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def num_chips(self) -> int:
        """Number of chips, which are JAX's devices."""
        return math.prod(self.shape)

    @property
    def wraps(self) -> tuple[bool, ...]:
        """True for each axis whose two ends are neighbours.

        They are along axes of 16 chips on v5e and v6e, and in slices of whole cubes of 4 x 4 x 4 on v4 and v5p.
        """
        if self.chip.torus_dims == 2:
            return tuple(length == 16 for length in self.shape)
        return (all(length % 4 == 0 for length in self.shape),) * 3

    @property
    def chips_per_host(self) -> int:
        """Number of chips of one machine in the compiler's layout."""
        return min(4, self.num_chips)

    @property
    def jax_name(self) -> str:
        """Name of the slice in JAX's ahead-of-time compilation."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    def __str__(self) -> str:
        chips = "chip" if self.num_chips == 1 else "chips"
        return f"{self.name}: {self.num_chips} {self.chip.name} {chips}, {' x '.join(map(str, self.shape))}"


def parse_topology(name: str) -> Topology:
    """Finds the slice of a name.

    Args:
      name: ``v5e-256`` (v5e and v6e count chips; ``v5litepod-256`` is the same), ``v4-32`` (v4 and v5p count
        TensorCores, two per chip), or the chips along each axis, ``v5e:16x16``, ``v5p:2x2x4``.

    Raises:
      UserError: no such chip or no such slice.
    """
    match = _NAME.fullmatch(name.strip().lower().replace("v5litepod", "v5e"))
    if not match:
        raise UserError(
            f"{name!r} is not the name of a TPU slice. Valid: a TPU and a size, e.g. v5e-256, v6e-8, v4-32, v5p-128, "
            "or its chips along each axis, e.g. v5e:16x16, v4:2x2x4."
        )
    chip = find_chip(match["chip"])
    shapes = _shapes(chip)
    if match["size"]:
        size = int(match["size"])
        by_size = {math.prod(shape) * chip.cores: shape for shape in shapes}
        if size not in by_size:
            unit = "chips" if chip.cores == 1 else "TensorCores, two per chip"
            raise UserError(
                f"There is no slice {name!r}. Sizes of {chip.name} (in {unit}): {', '.join(map(str, by_size))}. "
                f"Or give the chips along each axis, e.g. {_example(chip)}."
            )
        return Topology(name, chip, by_size[size])
    shape = tuple(int(length) for length in match["shape"].split("x"))
    if tuple(sorted(shape)) not in {tuple(sorted(known)) for known in shapes} and not _whole_cubes(shape, chip):
        cubes = "" if chip.torus_dims == 2 else f", or multiples of 4 along each axis, up to {chip.largest} chips"
        raise UserError(
            f"There is no slice {name!r}. Shapes of {chip.name}: "
            f"{', '.join('x'.join(map(str, known)) for known in shapes)}{cubes}."
        )
    return Topology(name, chip, shape)


def _shapes(chip: Chip) -> tuple[tuple[int, ...], ...]:
    every = _SHAPES_2D if chip.torus_dims == 2 else _SHAPES_3D
    return tuple(shape for shape in every if math.prod(shape) <= chip.largest)


def _whole_cubes(shape: tuple[int, ...], chip: Chip) -> bool:
    return (
        chip.torus_dims == len(shape) == 3
        and all(length and length % 4 == 0 for length in shape)
        and math.prod(shape) <= chip.largest
    )


def _example(chip: Chip) -> str:
    return f"{chip.name}:4x4" if chip.torus_dims == 2 else f"{chip.name}:2x2x4"


def topology_devices(topology: Topology) -> list[jax.Device]:
    """Returns devices to compile for; nothing can run on them.

    Raises:
      UserError: the TPU compiler is not installed.
    """
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise missing_extra("Compiling for a TPU needs no TPU, but its compiler in the package libtpu", "plan")
    # Outside Google's cloud the library would ask the metadata server for these, and complain.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # It complains about "v5e:4x4" and knows "v5e-16".
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{topology.chip.name}-{topology.num_chips * topology.chip.cores}")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_LOG_DIR", "disabled")
    # Nothing runs here, so another process may use the library, or the TPU, at the same time.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental.topologies import get_topology_desc

    shape = topology.shape + (1,) * (3 - len(topology.shape))
    host = tuple(min(2, length) for length in shape[:2])
    return list(
        get_topology_desc(
            platform="tpu",
            topology_name=topology.jax_name,
            # Two TensorCores of a chip as one device, as users of v4 and v5p get them.
            chip_config_name="default" if topology.chip.cores == 1 else "megacore",
            chips_per_host_bounds=(*host, 1),
            num_slices=1,
            wrap=topology.wraps + (False,) * (3 - len(topology.wraps)),
        ).devices
    )


def chip_coordinates(topology: Topology, devices: Iterable[jax.Device]) -> Int[np.ndarray, "N axes"]:
    """Returns the positions of devices along the axes of a slice.

    Args:
      topology: the slice.
      devices: from ``topology_devices``, in any order.
    """
    return np.array([device.coords for device in devices])[:, : len(topology.shape)]
