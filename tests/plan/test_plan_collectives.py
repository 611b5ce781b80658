"""Collectives of real programs on eight virtual devices against their source; times by hand."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import AxisType, Mesh

from mqmha_jax.plan.collectives import Collective, collective_seconds, find_collectives
from mqmha_jax.plan.hlo import parse_hlo
from mqmha_jax.plan.step_time import sum_traffic
from mqmha_jax.plan.topology import Topology, parse_topology

GIGABYTE = 10**9


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def permute(x: Array) -> Array:
    return lax.ppermute(x, "model", [(i, (i + 1) % 4) for i in range(4)])


def loop(x: Array) -> Array:
    return lax.scan(lambda carry, _: (lax.psum(jnp.tanh(carry), "model") / 4, None), x, length=3)[0]


# A device holds [6, 16] float32, 384 bytes. Sent on a ring of n, by hand.
CASES = [
    (lambda x: lax.psum(x, "model"), "all-reduce", 4, 384, 1, 2 * 3 / 4 * 384),
    (lambda x: lax.psum(x, ("data", "model")), "all-reduce", 8, 384, 1, 2 * 7 / 8 * 384),
    (lambda x: lax.all_gather(x, "data"), "all-gather", 2, 384, 1, 384),
    (lambda x: lax.psum_scatter(x, "model", scatter_dimension=1), "reduce-scatter", 4, 384, 1, 3 / 4 * 384),
    (lambda x: lax.all_to_all(x, "model", 1, 1, tiled=True), "all-to-all", 4, 384, 1, 3 / 4 * 384),
    (permute, "collective-permute", 2, 384, 1, 384),
    (loop, "all-reduce", 4, 384, 3, 2 * 3 / 4 * 384),
]


@pytest.mark.parametrize(("function", "kind", "members", "operand", "runs", "sent"), CASES)
def test_the_collectives_of_a_program_are_found_with_their_bytes(
    mesh: Mesh, function: Callable[[Array], Array], kind: str, members: int, operand: int, runs: int, sent: float
) -> None:
    # reduce-scatter takes [6, 16] apart along its second axis, which must then be as long as the group.
    shape = (24, 4) if kind == "reduce-scatter" else (6, 16)
    program = jax.shard_map(
        function, mesh=mesh, in_specs=jax.P(("data", "model")), out_specs=jax.P(("data", "model")), check_vma=False
    )
    text = jax.jit(program).lower(jax.ShapeDtypeStruct((8 * shape[0], shape[1]), jnp.float32)).compile().as_text()
    (found,) = find_collectives(parse_hlo(text), 8)
    assert (found.kind, len(found.members), found.operand_bytes, found.runs) == (kind, members, operand, runs)
    assert found.sent_bytes == sent
    assert not found.overlaps


def test_start_and_done_are_one_collective_that_overlaps() -> None:
    text = """\
HloModule step

%wrapped (p.1: f32[8]) -> f32[2] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %scatter = f32[2]{0} reduce-scatter(%p.1), replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%add
}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main (p: f32[8]) -> f32[32] {
  %p = f32[8]{0} parameter(0)
  %scatter-start = ((f32[8]{0}), f32[2]{0}) async-start(%p), calls=%wrapped
  %scatter-done = f32[2]{0} async-done(%scatter-start)
  %gather-start = (f32[8]{0}, f32[32]{0}) all-gather-start(%p), replica_groups=[1,4]<=[4], dimensions={0}
  %alone = f32[8]{0} all-reduce(%p), replica_groups={{0},{1},{2},{3}}, to_apply=%add
  ROOT %gather-done = f32[32]{0} all-gather-done(%gather-start)
}
"""
    found = find_collectives(parse_hlo(text), 4)
    assert {(item.kind, item.operand_bytes, item.overlaps, item.runs) for item in found} == {
        ("reduce-scatter", 32, True, 1),
        ("all-gather", 32, True, 1),
    }


def grid(topology: Topology) -> np.ndarray:
    return np.argwhere(np.ones(topology.shape))


@pytest.mark.parametrize(
    ("name", "members", "links", "hops"),
    [
        ("v5e-256", range(256), 4, 16),  # two rings of 16: at most 8 hops along each
        ("v5e-256", range(16), 2, 8),  # one ring
        ("v5e-16", range(16), 2, 6),  # two lines of 4
        ("v5e-16", range(4), 1, 3),
        ("v5e-16", range(0, 16, 4), 1, 3),  # the other axis
        ("v5p-128", range(64), 6, 6),  # three rings of 4
        ("v4:2x2x1", range(4), 2, 2),
    ],
)
def test_the_time_of_a_collective_by_hand(name: str, members: range, links: int, hops: int) -> None:
    topology = parse_topology(name)
    large = Collective("all-gather", GIGABYTE, tuple(members))
    seconds = collective_seconds(large, topology, grid(topology))
    np.testing.assert_allclose(seconds, (len(members) - 1) * GIGABYTE / (links * topology.chip.link_bandwidth))
    # The way alone decides the time of a few bytes; an all-reduce goes there and back.
    for kind, ways in (("all-gather", 1), ("all-reduce", 2)):
        seconds = collective_seconds(Collective(kind, 4, tuple(members)), topology, grid(topology))
        np.testing.assert_allclose(seconds, ways * hops * 1e-6)


def test_traffic_adds_up_by_kind_and_group_and_the_slowest_comes_first() -> None:
    topology = parse_topology("v5e-4")
    row, everyone = (0, 1), (0, 1, 2, 3)
    collectives = [
        Collective("all-reduce", 100, row, runs=3),
        Collective("all-reduce", 50, row),
        Collective("all-gather", GIGABYTE, everyone, overlaps=True),
    ]
    gathered, reduced = sum_traffic(collectives, topology, grid(topology))
    assert (gathered.kind, gathered.count, gathered.overlaps) == ("all-gather", 1, True)
    assert gathered.sent_bytes == 3 * GIGABYTE
    assert (reduced.count, reduced.group_size, reduced.operand_bytes, reduced.sent_bytes) == (4, 2, 350, 350)
    np.testing.assert_allclose(reduced.seconds, 4 * 2 * 1e-6)
    np.testing.assert_allclose(gathered.seconds, 3 / (2 * 50))
