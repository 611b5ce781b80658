"""Convolutions on a CPU keep off YNNPACK where it uses a single core."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mqmha_jax.config_io import with_overrides
from mqmha_jax.evaluation.embeddings.embed import Embedder, _compiled_for
from mqmha_jax.models.cpu_convolutions import convolution_options
from mqmha_jax.parallel import device_mesh
from mqmha_jax.train.build import build_training
from tests.support.small_nets import NUM_FEATURES, small_net
from tests.support.tiny import tiny_config

faulty_version = pytest.mark.skipif(jax.__version_info__[:3] != (0, 10, 2), reason="only jax 0.10.2 has the fault")


def convolutions_of_ynnpack(program: jax.stages.Compiled) -> list[str]:
    return re.findall(r'ynn_fusion[.\d]* = .*op_name="[^"]*conv_general_dilated', program.as_text() or "")


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_accelerators_have_no_options(platform: str) -> None:
    assert convolution_options(platform) == {}


@pytest.mark.parametrize(("version", "faulty"), [((0, 10, 0), False), ((0, 10, 2), True), ((0, 12, 0, 1), False)])
def test_only_the_faulty_version_has_options(
    version: tuple[int, ...], faulty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "__version_info__", version)
    assert bool(convolution_options("cpu")) is faulty


@faulty_version
def test_the_options_keep_convolutions_off_ynnpack_and_change_no_result() -> None:
    random = np.random.default_rng(0)
    x, kernel = (jnp.asarray(random.normal(size=s), jnp.float32) for s in ((2, 30, 20, 32), (3, 3, 32, 32)))
    default, ours = (
        jax.jit(convolve, compiler_options=options).lower(x, kernel).compile()
        for options in (None, convolution_options("cpu"))
    )
    assert convolutions_of_ynnpack(default)
    assert not convolutions_of_ynnpack(ours)
    np.testing.assert_allclose(default(x, kernel), ours(x, kernel), rtol=1e-4, atol=1e-4)


@faulty_version
def test_an_embedding_keeps_off_ynnpack() -> None:
    net, variables = small_net("resnet18", "tstp")
    embedder = Embedder(net, variables)
    fbank, num_frames = jnp.zeros((2, 30, NUM_FEATURES)), jnp.asarray([30, 20], jnp.int32)
    program = _compiled_for("cpu").lower(embedder.net, embedder.variables, fbank, num_frames).compile()
    assert not convolutions_of_ynnpack(program)


@faulty_version
def test_a_training_step_keeps_off_ynnpack() -> None:
    config = with_overrides(tiny_config({}), ["model.encoder=resnet18"])
    training = build_training(config, num_speakers=8, mesh=device_mesh(config.mesh, jax.devices()[:1]))
    assert not convolutions_of_ynnpack(training.lower().compile())
