"""Names of TPU slices as users know them, and the published figures of their chips."""

import math

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.plan.chips import CHIPS
from mqmha_jax.plan.topology import parse_topology


@pytest.mark.parametrize(
    ("name", "chips", "jax_name"),
    [
        ("v5e-256", 256, "v5e:16x16"),
        ("v5litepod-16", 16, "v5e:4x4"),
        ("v6e-8", 8, "v6e:2x4"),
        ("v4-32", 16, "v4:2x2x4"),  # 32 TensorCores
        ("v5p-8", 4, "v5p:2x2x1"),
        ("v5p-2048", 1024, "v5p:8x8x16"),
        ("v5e:8x4", 32, "v5e:8x4"),
        ("v4:4x4x12", 192, "v4:4x4x12"),
        (" V5E-4 ", 4, "v5e:2x2"),
    ],
)
def test_a_name_stands_for_chips(name: str, chips: int, jax_name: str) -> None:
    topology = parse_topology(name)
    assert (topology.num_chips, topology.jax_name) == (chips, jax_name)


@pytest.mark.parametrize(
    ("name", "wraps"),
    [
        ("v5e-256", (True, True)),
        ("v6e-128", (False, True)),
        ("v5e-64", (False, False)),
        ("v4-64", (False, False, False)),  # half a cube
        ("v5p-128", (True, True, True)),
    ],
)
def test_an_axis_is_a_ring_where_the_pod_closes_it(name: str, wraps: tuple[bool, ...]) -> None:
    assert parse_topology(name).wraps == wraps


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v5e-100", ["no slice 'v5e-100'", "in chips", "128, 256", "v5e:4x4"]),
        ("v4-24", ["no slice 'v4-24'", "TensorCores, two per chip", "8, 16, 32"]),
        ("v5e:3x3", ["no slice 'v5e:3x3'", "4x4"]),
        ("v5e:4x4x4", ["no slice 'v5e:4x4x4'"]),
        ("v4:4x4x6", ["no slice 'v4:4x4x6'", "multiples of 4"]),
        ("v4:0x4x4", ["no slice"]),
        ("v5p:16x16x32", ["no slice", "up to 6144 chips"]),
        ("v9x-8", ["Unknown TPU 'v9x'", "v5e, v5p, v6e"]),
        ("a100", ["'a100' is not the name of a TPU slice", "v5e-256"]),
        ("v4litepod-8", ["Unknown TPU 'v4litepod'"]),
        ("", ["not the name of a TPU slice"]),
    ],
)
def test_a_slice_that_does_not_exist_is_refused_with_those_that_do(name: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse_topology(name)
    for word in words:
        assert word in str(error.value)


def test_every_size_that_an_error_offers_is_accepted() -> None:
    for chip in CHIPS.values():
        with pytest.raises(UserError) as error:
            parse_topology(f"{chip.name}-7")
        sizes = str(error.value).partition("): ")[2].partition(".")[0].split(", ")
        assert len(sizes) >= 8
        for size in sizes:
            topology = parse_topology(f"{chip.name}-{size}")
            assert topology.num_chips * chip.cores == int(size)
            assert parse_topology(topology.jax_name).shape == topology.shape
            assert len(topology.shape) == chip.torus_dims


@pytest.mark.parametrize(("name", "units", "side"), [("v4", 8, 128), ("v5e", 4, 128), ("v5p", 8, 128), ("v6e", 4, 256)])
def test_clock_and_peak_of_a_chip_agree(name: str, units: int, side: int) -> None:
    chip = CHIPS[name]
    np.testing.assert_allclose(chip.clock_hz * units * 2 * math.prod((side, side)), chip.peak_flops, rtol=5e-3)
