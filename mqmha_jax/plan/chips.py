"""Published figures of the TPU chips: the only numbers of a plan that do not come from the compiler."""

import dataclasses

from mqmha_jax.errors import unknown_name

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip. JAX sees it as one device, with both cores of v4 and v5p together ("megacore").

    Attributes:
      name: the name that users know.
      peak_flops: bfloat16 FLOP/s.
      hbm_bytes: capacity of the main memory.
      hbm_bandwidth: bandwidth of the main memory, bytes/s.
      link_bandwidth: bandwidth of one link to a neighbour, bytes/s, one way; both ways work at the same time.
      clock_hz: clock of the TensorCore, which the compiler's cycles count.
      cores: TensorCores, which the names of v4 and v5p slices count.
      torus_dims: number of axes with neighbours, two or three.
      largest: chips in the largest slice.
    """

    name: str
    peak_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    clock_hz: float
    cores: int
    torus_dims: int
    largest: int


# Capacity, bandwidth and peak: https://docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}. Those pages give the traffic
# over all links of a chip (both ways; v5e 400, v5p 1200, v6e 800 GB/s). One link has, one way, that traffic divided by
# twice the number of links, 4 in a 2-D torus and 6 in a 3-D one. v4: six links of 50 GB/s (Jouppi et al., arXiv
# 2304.01433, table 4).
# Clock: peak / (2 FLOP x multipliers): eight units of 128 x 128 on v4 and v5p, four on v5e, four of 256 x 256 on v6e;
# 1.05 GHz on v4 as in that paper.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIB, 1228e9, 50e9, 1.05e9, 2, 3, 4096),
        Chip("v5e", 197e12, 16 * GIB, 819e9, 50e9, 1.50e9, 1, 2, 256),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 100e9, 1.75e9, 2, 3, 6144),
        Chip("v6e", 918e12, 32 * GIB, 1640e9, 100e9, 1.75e9, 1, 2, 256),
    )
}


def find_chip(name: str) -> Chip:
    """Returns the chip of a name; raises UserError with the valid names."""
    if name not in CHIPS:
        raise unknown_name("TPU", name, CHIPS)
    return CHIPS[name]
