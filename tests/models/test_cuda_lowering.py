"""Every network lowers for NVIDIA GPUs without one, and in the layout and types that cuDNN computes fastest."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from mqmha_jax.models.masked import Compute
from mqmha_jax.models.trusted_convolutions import convolve_by_products
from tests.support.convolutions import check_convolutions
from tests.support.small_nets import SMALL_ENCODERS, SMALL_POOLINGS, padded_batch, small_net


def _lower(net, variables, *, gradient: bool) -> str:
    """StableHLO for CUDA of the embedding, or of a gradient with respect to the parameters."""

    def embed(params, fbank, mask):
        return net.apply({**variables, "params": params}, fbank, mask, train=False)

    def loss(params, fbank, mask):
        own = {**variables, "params": params}
        return (net.apply(own, fbank, mask, train=True, mutable=["batch_stats"])[0] ** 2).sum()

    function = jax.jit(jax.grad(loss) if gradient else embed)
    return export.export(function, platforms=["cuda"])(variables["params"], *padded_batch(16, (16, 9))).mlir_module()


def _half(net):
    return net.clone(encoder=net.encoder.clone(compute=Compute(dtype=jnp.dtype("bfloat16"))))


@pytest.mark.parametrize("pooling", SMALL_POOLINGS)
def test_every_pooling_lowers(pooling):
    assert "stablehlo" in _lower(*small_net("tdnn", pooling), gradient=True)


def _slow_but(*quick: str) -> list:
    """Every encoder, because each takes seconds; test_cuda_lowering.py of train lowers them at their full size."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in SMALL_ENCODERS]


@pytest.mark.parametrize("encoder", _slow_but("resnet18", "tdnn", "campplus"))
def test_convolutions_of_every_encoder_are_channels_last_in_bfloat16(encoder):
    net, variables = small_net(encoder, "tstp")
    assert check_convolutions(_lower(_half(net), variables, gradient=False), "bf16", gradient=False)


@pytest.mark.parametrize("encoder", _slow_but("resnet18"))
def test_gradients_of_every_encoder_are_channels_last_in_both_types(encoder):
    net, variables = small_net(encoder, "tstp")
    for network, element in ((net, "f32"), (_half(net), "bf16")):
        assert check_convolutions(_lower(network, variables, gradient=True), element, gradient=True)


def test_the_fallback_lowers_to_products():
    net, variables = small_net("tdnn", "tstp")
    assert "stablehlo.convolution(" not in _lower(convolve_by_products(_half(net)), variables, gradient=True)
