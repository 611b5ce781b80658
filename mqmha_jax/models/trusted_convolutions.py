"""Checks a network's half-precision convolutions over time on the GPU that is to run them.

XLA with cuDNN refuses nearly all dilated one-dimensional convolutions in bfloat16, or computes them wrongly, in some
versions (jax-ml/jax, issue 37922). A network trained with wrong convolutions looks like one that learns badly, so the
convolutions of a network are compared with float32 before their first use.
"""

import logging
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend import core

from mqmha_jax.models.speaker_net import SpeakerNet, change_compute
from mqmha_jax.models.time_products import convolve_as_product

# Half precision keeps 8 bits (bfloat16) of each result. Results of a wrong algorithm differ by their own size.
_LARGEST_ERROR = 2.0**-5
_log = logging.getLogger(__name__)


def trust_convolutions(net: SpeakerNet, num_features: int, *, rows: int = 2, frames: int = 200) -> SpeakerNet:
    """Returns the network in a form whose convolutions over time are right on this process's first device.

    Args:
      net: the network.
      num_features: F, of its input.
      rows: B, of its input.
      frames: T, of its input.

    Returns:
      The network itself, unless it computes in half precision on a GPU and one of its convolutions over time fails.
      Then a network with the same parameters that computes them as matrix products.
    """
    compute = getattr(net.encoder, "compute", None)
    if compute is None or jnp.dtype(compute.dtype).itemsize != 2 or jax.local_devices()[0].platform != "gpu":
        return net
    found = find_time_convolutions(net, num_features, rows=rows, frames=frames)
    wrong = [convolution for convolution in found if not is_right(convolution)]
    if not wrong:
        return net
    _log.warning(
        "%d of the network's %d convolutions over time are wrong in %s on this GPU with jax %s, so all of them are "
        "computed as matrix products. The network is the same; its speed may differ.",
        len(wrong),
        len(found),
        jnp.dtype(compute.dtype).name,
        jax.__version__,
    )
    return convolve_by_products(net)


def convolve_by_products(net: SpeakerNet) -> SpeakerNet:
    """Returns the same network with convolutions over time as matrix products."""
    return change_compute(net, convolve_time=convolve_as_product)


def find_time_convolutions(net: SpeakerNet, num_features: int, *, rows: int, frames: int) -> list[core.JaxprEqn]:
    """Finds the distinct half-precision convolutions over time in a network and in its gradient.

    Args:
      net: the network.
      num_features: F, of its input.
      rows: B, of its input.
      frames: T, of its input.
    """
    fbank = jax.ShapeDtypeStruct((rows, frames, num_features), jnp.float32)
    mask = jax.ShapeDtypeStruct((rows, frames), bool)
    variables = jax.eval_shape(lambda *batch: net.init(jax.random.key(0), *batch, train=False), fbank, mask)

    def loss(params: Any, statistics: Any, fbank: Array, mask: Array) -> Array:
        collections = {"params": params, "batch_stats": statistics}
        embedding, _ = net.apply(collections, fbank, mask, train=True, mutable=["batch_stats"])
        return embedding.sum()

    statistics = variables.get("batch_stats", {})
    program = jax.make_jaxpr(jax.grad(loss))(variables["params"], statistics, fbank, mask)
    distinct = {}
    for equation in _walk(program.jaxpr):
        operands = _operands(equation)
        if equation.primitive.name != "conv_general_dilated" or len(operands[0].shape) != 3:
            continue
        if operands[0].dtype.itemsize == 2:
            distinct[str((operands, sorted(equation.params.items(), key=lambda item: item[0])))] = equation
    return list(distinct.values())


def is_right(convolution: core.JaxprEqn) -> bool:
    """Whether the default device computes a convolution as float32 does, on random numbers."""
    rng = np.random.default_rng(0)
    half = [jnp.asarray(rng.standard_normal(x.shape), x.dtype) for x in _operands(convolution)]
    exact = {**convolution.params, "precision": jax.lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
    try:
        result = run_convolution(half, convolution.params)
    except jax.errors.JaxRuntimeError:  # no algorithm of cuDNN passes XLA's own comparison
        return False
    expected = run_convolution([x.astype(jnp.float32) for x in half], exact)
    difference = jnp.abs(result.astype(jnp.float32) - expected).max()
    return bool(difference <= _LARGEST_ERROR * jnp.abs(expected).max())  # False if it is not a number


def run_convolution(operands: list[Array], params: dict[str, Any]) -> Array:
    """Computes one convolution, given as the parameters of its primitive."""
    return jax.jit(lambda *x: jax.lax.conv_general_dilated_p.bind(*x, **params))(*operands)


def _operands(equation: core.JaxprEqn) -> list[Any]:
    """Shapes and types of frames and kernel."""
    return [variable.aval for variable in equation.invars]


def _walk(program: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    for equation in program.eqns:
        yield equation
        for called in core.jaxprs_in_params(equation.params):
            yield from _walk(called)
