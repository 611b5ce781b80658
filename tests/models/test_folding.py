"""Folded frequencies give the results of plain ones."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from mqmha_jax.models.encoders.resnet import ResNet
from mqmha_jax.models.folding import Folded, convolve, fold_of
from mqmha_jax.models.maps import Maps
from mqmha_jax.models.masked import Compute, MaskedBatchNorm, mask_positions


@pytest.mark.parametrize(("channels", "lanes", "fold"), [(32, 128, 4), (64, 128, 2), (128, 128, 1), (256, 128, 1)])
def test_a_fold_fills_the_lanes(channels, lanes, fold):
    assert fold_of(channels, lanes) == fold


def test_a_fold_is_a_power_of_two_and_never_overflows():
    for channels, lanes in itertools.product(range(1, 80), (1, 8, 128)):
        fold = fold_of(channels, lanes)
        assert fold & (fold - 1) == 0
        assert fold == 1 or fold * channels <= lanes < 2 * fold * channels


@pytest.mark.parametrize(
    "axis", [Folded(7, 4), Folded(8, 4), Folded(8, 4, 1), Folded(5, 2, 1), Folded(5), Folded(1, 2)]
)
def test_folding_is_undone(axis):
    x = np.arange(1, 2 * axis.size * 3 + 1, dtype=np.float32).reshape(2, axis.size, 3)
    folded = np.asarray(axis.wrap(jnp.asarray(x)))
    assert folded.shape == (2, axis.groups, axis.fold * 3)
    np.testing.assert_array_equal(axis.unwrap(jnp.asarray(folded)), x)
    np.testing.assert_array_equal(np.broadcast_to(axis.real(3), folded.shape), folded > 0)
    assert axis.is_full == axis.real(3).all()


@pytest.mark.parametrize("size", [1, 7, 8])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_folded_convolution_is_the_plain_one(size, kernel_size, stride):
    random = np.random.default_rng(0)
    # Small integers: no sum is rounded, so every order of it gives the same bits.
    x = jnp.asarray(random.integers(-4, 5, (2, 5, size, 3)).astype(np.float32))
    kernel = jnp.asarray(random.integers(-4, 5, (kernel_size, kernel_size, 3, 2)).astype(np.float32))
    reach = kernel_size // 2
    plain = lax.conv_general_dilated(
        x, kernel, (stride, stride), ((reach, reach), (reach, reach)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    for (fold_in, lead_in), (fold, lead) in itertools.product([(1, 0), (2, 0), (4, 0), (4, 1)], repeat=2):
        axis = Folded(size, fold_in, lead_in)
        y, result = convolve(axis.wrap(x), kernel, axis, stride=(stride, stride), fold=fold, lead=lead)
        assert result.fold >= fold
        assert result.lead == min(lead, result.fold - 1)
        np.testing.assert_array_equal(result.unwrap(y), plain)


def test_a_kernel_of_three_reads_two_groups_where_they_are_not_aligned():
    def taps(source: Folded, lead: int) -> int:
        x = jnp.zeros((1, 4, source.groups, source.fold * 32))
        program = jax.make_jaxpr(lambda x, k: convolve(x, k, source, stride=(1, 1), fold=source.fold, lead=lead)[0])
        jaxpr = program(x, jnp.zeros((3, 3, 32, 32)))
        (conv,) = (e for e in jaxpr.eqns if e.primitive.name == "conv_general_dilated")
        return conv.invars[1].aval.shape[1]

    for fold in (2, 4):
        assert taps(Folded(80, fold), 0) == 3
        assert taps(Folded(80, fold), 1) == taps(Folded(80, fold, 1), 0) == 2


def _normalize(norm: MaskedBatchNorm, maps: Maps) -> Maps:
    return maps.normalize(norm, train=True)


@pytest.mark.parametrize("axis", [Folded(8, 4), Folded(7, 4, 1), Folded(6, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_normalisation_of_folded_positions_is_the_plain_one(axis, groups):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(4, 5, axis.size, 3)).astype(np.float32))
    mask = jnp.asarray([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]], bool)
    variables = {
        "params": {"scale": jnp.asarray([1.0, 2.0, 3.0]), "bias": jnp.asarray([0.5, 0.0, -0.5])},
        "batch_stats": {"mean": jnp.zeros(3), "var": jnp.ones(3)},
    }
    norm = MaskedBatchNorm(groups=groups)
    # What fills the groups must not count, whatever it is.
    filled = jnp.where(axis.real(3)[None, None], axis.wrap(x), 1e3)
    folded, its = nn.apply(_normalize, norm, mutable=["batch_stats"])(variables, Maps(filled, mask, axis))
    plain, their = norm.apply(variables, x, mask, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(folded.unfold(), plain, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), its, their)


def test_masking_sets_the_filling_to_zero():
    axis = Folded(7, 4)
    maps = Maps(jnp.ones((2, 3, 2, 8)), jnp.asarray([[1, 1, 0], [1, 0, 0]], bool), axis)
    assert float(maps.masked().values.sum()) == 3 * 7 * 2


def test_a_sum_of_differently_folded_maps_is_the_plain_sum():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 7, 3)).astype(np.float32))
    mask = jnp.ones((1, 2), bool)
    one, other = (Maps(bands.wrap(x), mask, bands) for bands in (Folded(7, 4, 1), Folded(7, 2)))
    np.testing.assert_array_equal(one.plus(other).unfold(), x + x)
    np.testing.assert_array_equal(one.plus(one).unfold(), x + x)


@pytest.mark.parametrize("block", ["basic", pytest.param("bottleneck", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("bands", "frames", "strides"),
    [(21, 13, (1, 1, 2)), *(pytest.param(*sizes, (1, 2, 2), marks=pytest.mark.slow) for sizes in ((16, 13), (5, 1)))],
)
def test_a_folded_network_is_the_plain_one(block, bands, frames, strides):
    with jax.enable_x64(True):
        plain, folded = (
            ResNet(stage_sizes=(1, 2, 1), strides=strides, block=block, width=4, compute=Compute(jnp.float64, lanes=n))
            for n in (1, 16)
        )
        fbank = jax.random.normal(jax.random.key(0), (3, frames, bands), jnp.float64)
        mask = jnp.arange(frames)[None] < jnp.asarray([frames, max(1, frames - 4), frames])[:, None]
        variables = jax.jit(lambda: plain.init(jax.random.key(1), fbank, mask, train=False))()
        shapes = jax.eval_shape(lambda: folded.init(jax.random.key(1), fbank, mask, train=False))
        assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
        variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)

        def run(net, variables):
            def valid(params):
                own = {"params": params, "batch_stats": variables["batch_stats"]}
                (y, out_mask), update = net.apply(own, fbank, mask, train=True, mutable=["batch_stats"])
                y = mask_positions(y, out_mask)
                return jnp.sin(y).sum(), (y, update)

            y, out_mask = net.apply(variables, fbank, mask, train=False)
            return jax.value_and_grad(valid, has_aux=True)(variables["params"]), mask_positions(y, out_mask)

        results = (jax.jit(functools.partial(run, net))(variables) for net in (folded, plain))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9), *results)
