"""Texts of compiled programs: how often each part runs, FLOPs against XLA's own count, traffic by hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from mqmha_jax.plan.hbm_traffic import count_hbm_bytes
from mqmha_jax.plan.hlo import HloNotUnderstoodError, parse_hlo, read_groups
from mqmha_jax.plan.matrix_flops import count_matrix_flops

# The TPU compiler writes tiled layouts, a small memory S(1), tuples with comments, and loops without a trip count.
PROGRAM = """\
HloModule jit_step, is_scheduled=true

%fused (param_0: f32[7,128,64], param_1: s32[], param_2: f32[8,64]) -> f32[8,64] {
  %param_0 = f32[7,128,64]{2,1,0:T(8,128)} parameter(0)
  %param_1 = s32[]{:T(128)} parameter(1)
  %zero = s32[] constant(0)
  %param_2 = f32[8,64]{1,0:T(8,128)S(1)} parameter(2)
  %slice.1 = f32[1,128,64]{2,1,0} dynamic-slice(%param_0, %param_1, %zero, %zero), dynamic_slice_sizes={1,128,64}
  ROOT %add.2 = f32[8,64]{1,0} add(%param_2, %param_2)
}

%body (carry: (s32[], f32[8,64], /*index=2*/f32[7,128,64])) -> (s32[], f32[8,64], f32[7,128,64]) {
  %carry = (s32[]{:T(128)}, f32[8,64]{1,0:T(8,128)S(1)}, /*index=2*/f32[7,128,64]{2,1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%carry), index=0
  %x = f32[8,64]{1,0:T(8,128)S(1)} get-tuple-element(%carry), index=1
  %w = f32[7,128,64]{2,1,0:T(8,128)} get-tuple-element(%carry), index=2
  %part = f32[8,64]{1,0:T(8,128)S(1)} fusion(%w, %i, %x), kind=kLoop, calls=%fused, backend={"estimated_cycles":"50"}
  ROOT %next = (s32[], f32[8,64], f32[7,128,64]) tuple(%i, %part, %w)
}

%condition (carry.1: (s32[], f32[8,64], f32[7,128,64])) -> pred[] {
  %limit = s32[]{:T(128)} constant(7)
  %carry.1 = (s32[], f32[8,64], f32[7,128,64]) parameter(0)
  %count = s32[] get-tuple-element(%carry.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%count, %limit), direction=LT
}

ENTRY %main_spmd (p0: f32[8,64], p1: f32[7,128,64]) -> f32[8,64] {
  %p0 = f32[8,64]{1,0:T(8,128)} parameter(0), sharding={replicated}
  %p1 = f32[7,128,64]{2,1,0:T(8,128)} parameter(1)
  %zero.1 = s32[] constant(0)
  %start = (f32[8,64]{1,0:T(8,128)S(1)}, f32[8,64]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%p0)
  %fetched = f32[8,64]{1,0:T(8,128)S(1)} copy-done(%start)
  %init = (s32[], f32[8,64], f32[7,128,64]) tuple(%zero.1, %fetched, %p1)
  %loop = (s32[], f32[8,64]{1,0:T(8,128)S(1)}, f32[7,128,64]{2,1,0}) while(%init), condition=%condition, body=%body
  %result = f32[8,64]{1,0:T(8,128)S(1)} get-tuple-element(%loop), index=1
  ROOT %out = bf16[8,64]{1,0:T(8,128)(2,1)} convert(%result), backend_config={"estimated_cycles":"9"}
}
"""


def test_the_parts_of_a_program_are_read() -> None:
    program = parse_hlo(PROGRAM)
    assert program.entry == "main_spmd"
    carry = program.computations["body"]["carry"]
    assert [buffer.dims for buffer in carry.result] == [(), (8, 64), (7, 128, 64)]
    assert [buffer.in_hbm for buffer in carry.result] == [True, False, True]
    assert program.computations["main_spmd"]["out"].bytes == 2 * 8 * 64
    assert program.computations["body"]["part"].operands == ("w", "i", "x")
    assert program.fused == {"fused"}


def test_a_loop_counts_as_often_as_it_runs() -> None:
    program = parse_hlo(PROGRAM)
    assert program.runs == {"main_spmd": 1, "condition": 7, "body": 7, "fused": 7}
    assert program.unknown_loops == 0
    assert sum(program.runs[name] * i.cycles for name, i in program.instructions()) == 7 * 50 + 9


def test_a_loop_of_unknown_length_is_reported_and_counts_once() -> None:
    program = parse_hlo(PROGRAM.replace("direction=LT", "direction=NE"))
    assert program.runs["body"] == 1
    assert program.unknown_loops == 1


def test_traffic_leaves_out_the_small_memory_and_what_a_slice_does_not_touch() -> None:
    fetch = 4 * 8 * 128  # p0 (64 columns in tiles of 128) is read from main memory and lands beside the arithmetic
    loop = 7 * (4 * 128 * 64 + 4)  # one slice of w and the counter; x and the result lie beside the arithmetic
    condition = 7 * (4 + 4 + 1)
    assert count_hbm_bytes(parse_hlo(PROGRAM)) == fetch + loop + condition + 2 * 8 * 128


@pytest.mark.parametrize(
    ("text", "padded"),
    [
        ("bf16[64,200,81,32]{0,3,2,1:T(8,128)(2,1)}", (128, 200, 81, 32)),
        ("bf16[64,200,81,32]{3,0,2,1:T(8,128)(2,1)S(1)}", (64, 200, 81, 128)),
        ("f32[5]{0:T(128)}", (128,)),
        ("f32[]{:T(128)}", ()),
        ("f32[3,5]{1,0}", (3, 5)),
    ],
)
def test_tiles_pad_an_array(text: str, padded: tuple[int, ...]) -> None:
    program = parse_hlo(f"ENTRY %main (a: f32[1]) -> f32[1] {{\n  %a = {text} parameter(0)\n}}\n")
    (buffer,) = program.computations["main"]["a"].result
    assert (buffer.padded_dims or buffer.dims) == padded
    assert buffer.padded_bytes == np.prod(padded) * (2 if text.startswith("bf16") else 4)


def convolve(x: Array, w: Array, **options: Any) -> Array:
    return lax.conv_general_dilated(x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def convolution_gradient(x: Array, w: Array) -> Any:
    strided = functools.partial(convolve, window_strides=(2, 2), padding=((1, 1), (1, 1)))
    return jax.vjp(strided, x, w)[1](jnp.ones((4, 5, 4, 16)))


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(convolve, window_strides=(2, 1), padding=((1, 1), (0, 2))),
        functools.partial(convolve, window_strides=(1, 1), padding="SAME", rhs_dilation=(1, 2)),
        convolution_gradient,
        lambda x, w: jnp.einsum("bhwc,hwcd->bd", x[:, :3, :3], w),
        lambda x, w: jnp.einsum("bhwc,bhwd->bcd", x, x),
    ],
    ids=["strided", "dilated", "gradient", "matrix product", "batched product"],
)
def test_flops_of_convolutions_and_products_are_those_of_xla(function: Any) -> None:
    x, w = jax.ShapeDtypeStruct((4, 9, 7, 8), jnp.float32), jax.ShapeDtypeStruct((3, 3, 8, 16), jnp.float32)
    lowered = jax.jit(function).lower(x, w)
    counted = count_matrix_flops(parse_hlo(lowered.compile().as_text()))
    # Before compilation only the products have FLOPs here.
    np.testing.assert_allclose(counted, lowered.cost_analysis()["flops"], rtol=1e-6)


def test_flops_of_a_scan_are_those_of_the_same_steps_written_out() -> None:
    def steps(x: Array, w: Array, unroll: bool) -> Array:
        return lax.scan(lambda carry, part: (jnp.tanh(carry @ part), None), x, w, unroll=unroll)[0]

    x, w = jax.ShapeDtypeStruct((32, 64), jnp.float32), jax.ShapeDtypeStruct((5, 64, 64), jnp.float32)
    rolled, unrolled = (
        parse_hlo(jax.jit(functools.partial(steps, unroll=unroll)).lower(x, w).compile().as_text())
        for unroll in (False, True)
    )
    assert 5 in rolled.runs.values()
    assert rolled.unknown_loops == 0
    assert count_matrix_flops(rolled) == count_matrix_flops(unrolled) == 5 * 2 * 32 * 64 * 64


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}, use_global_device_ids=true", [[0, 2], [1, 3]]),
        ("replica_groups={}, to_apply=%add", [[0, 1, 2, 3]]),
        ("replica_groups=[2,2]<=[4], dimensions={0}", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}, to_apply=%add", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, to_apply=%add", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}, to_apply=%add", [[0, 1, 2, 3]]),
        ("replica_groups=mesh['a'=4,'b'=1], device_ids=([2,2]T(1,0)) {'a':(1)2}", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=(3,1,2,0) {'b'}", [[3, 1], [2, 0]]),
        ("replica_groups=mesh['a'=8] {'a':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ("source_target_pairs={{0,1},{1,0}}, channel_id=1", [[0, 1], [1, 0]]),
        ("channel_id=1", [[0, 1, 2, 3]]),
    ],
)
def test_groups_are_read_in_every_form_that_xla_writes(written: str, groups: list[list[int]]) -> None:
    np.testing.assert_array_equal(read_groups(f"channel_id=1, {written}", 4), groups)


def test_groups_in_an_unknown_form_are_an_error() -> None:
    with pytest.raises(HloNotUnderstoodError, match="unreadable groups"):
        read_groups("replica_groups=<new form>", 4)
