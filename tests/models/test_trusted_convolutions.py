"""Half-precision convolutions over time are checked on a GPU and replaced by products where they are wrong."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mqmha_jax.models import trusted_convolutions
from mqmha_jax.models.masked import Compute
from mqmha_jax.models.time_products import convolve_as_product
from mqmha_jax.models.trusted_convolutions import find_time_convolutions, is_right, trust_convolutions
from tests.support.small_nets import NUM_FEATURES, padded_batch, small_net

HALF = Compute(dtype=jnp.dtype("bfloat16"))
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("campplus", "ecapa512", "redimnet_b3")]


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "groups", "padding"),
    [(3, 1, 2, 1, (2, 2)), (5, 2, 1, 1, (2, 2)), (3, 2, 3, 1, (0, 0)), (7, 1, 1, 6, (3, 3)), (1, 1, 1, 1, (0, 0))],
)
def test_a_product_equals_the_convolution_and_its_gradients(size, stride, dilation, groups, padding):
    x, kernel = (
        jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 17, 6), (size, 6 // groups, 12)])
    )
    convolutions = [
        nn.Conv(
            12,
            (size,),
            strides=stride,
            kernel_dilation=dilation,
            padding=(padding,),
            feature_group_count=groups,
            use_bias=False,
            conv_general_dilated=function,
        )
        for function in (None, convolve_as_product)
    ]

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate(conv, kernel, x):
        def total(kernel, x):
            return jnp.sin(conv.apply({"params": {"kernel": kernel}}, x)).sum()

        return jax.value_and_grad(total, (0, 1))(kernel, x)

    expected, found = (evaluate(conv, kernel, x) for conv in convolutions)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), found, expected)


def _half_net(encoder):
    net, variables = small_net(encoder, "tstp")
    return net.clone(encoder=net.encoder.clone(compute=HALF)), variables


@pytest.mark.parametrize("encoder", ["tdnn", *SLOW])
def test_the_fallback_of_an_encoder_has_no_convolution_over_time_left_and_embeds_alike(encoder):
    net, variables = _half_net(encoder)
    safe = trusted_convolutions.convolve_by_products(net)
    assert find_time_convolutions(net, NUM_FEATURES, rows=2, frames=24)
    assert not find_time_convolutions(safe, NUM_FEATURES, rows=2, frames=24)
    batch = padded_batch(16, (16, 9))
    nets = [
        n.clone(encoder=n.encoder.clone(compute=dataclasses.replace(n.encoder.compute, dtype=jnp.float32)))
        for n in (net, safe)
    ]
    expected, found = (jax.jit(functools.partial(n.apply, train=False))(variables, *batch) for n in nets)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_networks_without_convolutions_over_time_have_nothing_to_check():
    assert find_time_convolutions(_half_net("resnet18")[0], NUM_FEATURES, rows=2, frames=24) == []


@pytest.fixture
def pretend_gpu(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [types.SimpleNamespace(platform="gpu")])


def test_right_convolutions_leave_the_network_as_it_is(pretend_gpu):
    net, _ = _half_net("tdnn")
    assert all(map(is_right, find_time_convolutions(net, NUM_FEATURES, rows=2, frames=24)))
    assert trust_convolutions(net, NUM_FEATURES, frames=24) is net


@pytest.mark.parametrize("fault", ["wrong", "refused", "not a number"])
def test_a_wrong_convolution_is_replaced_and_said(fault, pretend_gpu, monkeypatch, caplog):
    net, _ = _half_net("tdnn")
    run = trusted_convolutions.run_convolution

    def faulty(operands, params):
        result = run(operands, params)
        if operands[0].dtype == jnp.float32 or params["rhs_dilation"] == (1,):
            return result
        if fault == "refused":
            raise jax.errors.JaxRuntimeError("INTERNAL: no algorithm")
        return result[::-1] if fault == "wrong" else result * jnp.nan

    monkeypatch.setattr(trusted_convolutions, "run_convolution", faulty)
    safe = trust_convolutions(net, NUM_FEATURES, frames=24)
    assert safe.encoder.compute.convolve_time is convolve_as_product
    assert "convolutions over time are wrong in bfloat16 on this GPU" in caplog.text


@pytest.mark.parametrize("net", [small_net("tdnn", "tstp")[0], _half_net("tdnn")[0]], ids=["float32", "on a CPU"])
def test_nothing_is_checked_in_float32_or_without_a_gpu(net, request, monkeypatch):
    if net.encoder.compute.dtype == jnp.float32:
        request.getfixturevalue("pretend_gpu")
    monkeypatch.setattr(trusted_convolutions, "find_time_convolutions", lambda *_, **__: pytest.fail("checked"))
    assert trust_convolutions(net, NUM_FEATURES) is net
