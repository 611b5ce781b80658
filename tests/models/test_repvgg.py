"""RepVGG's three branches fold into one convolution with the same result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.repvgg import RepVgg, fold_repvgg
from mqmha_jax.models.pooling.statistics import TSTP
from mqmha_jax.models.speaker_net import SpeakerNet, fold_for_inference

SMALL = RepVgg(stage_sizes=(1, 2, 1, 1), width_multipliers=(0.0625, 0.03125, 0.015625, 0.015625))


@pytest.fixture(scope="module")
def batch() -> tuple[jax.Array, jax.Array]:
    fbank = np.random.default_rng(0).normal(size=(2, 19, 16)).astype(np.float32)
    return jnp.asarray(fbank), jnp.arange(19)[None, :] < jnp.array([[19], [12]])


def test_folded_branches_give_the_same_frames(batch: tuple[jax.Array, jax.Array]) -> None:
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda *batch: SMALL.init(jax.random.key(0), *batch, train=False), *batch)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.2, 1, leaf.shape), leaf.dtype), shapes)
    branched, mask = jax.jit(lambda *batch: SMALL.apply(variables, *batch, train=False))(*batch)
    folded = fold_repvgg(variables)
    plain, plain_mask = jax.jit(lambda *batch: SMALL.clone(folded=True).apply(folded, *batch, train=False))(*batch)
    kernels = {leaf.shape[:2] for leaf in jax.tree.leaves(folded) if leaf.ndim == 4}
    assert kernels == {(3, 3)}
    np.testing.assert_array_equal(mask, plain_mask)
    np.testing.assert_allclose(plain[mask], branched[mask], rtol=2e-5)


def test_a_speaker_net_folds_its_encoder_alone(batch: tuple[jax.Array, jax.Array]) -> None:
    net = SpeakerNet(encoder=SMALL, pooling=TSTP(), embedding_dim=3, normalize_pooled=True)
    variables = jax.jit(lambda *batch: net.init(jax.random.key(0), *batch, train=False))(*batch)
    folded_net, folded = fold_for_inference(net, variables)
    one = jax.jit(lambda *batch: net.apply(variables, *batch, train=False))(*batch)
    other = jax.jit(lambda *batch: folded_net.apply(folded, *batch, train=False))(*batch)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert folded_net.encoder.folded
    again, same = fold_for_inference(folded_net, folded)
    assert again is folded_net
    assert same is folded


def test_a_folded_network_does_not_train(batch: tuple[jax.Array, jax.Array]) -> None:
    with pytest.raises(UserError, match="train with folded=False and fold afterwards"):
        SMALL.clone(folded=True).init(jax.random.key(0), *batch, train=True)
