"""CAM++: segment means against a loop, published sizes, and its message."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.errors import UserError
from mqmha_jax.models import build_speaker_net
from mqmha_jax.models.encoders.campplus import CamPlusPlus, _ContextGate
from mqmha_jax.models.masked import Compute


def test_the_gate_sees_the_means_of_utterance_and_segment() -> None:
    gate = _ContextGate(channels=3, segment_frames=4, compute=Compute())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 11, 6)).astype(np.float32)
    lengths = [10, 5]  # the last segments have two frames and one
    mask = np.arange(11)[None] < np.array(lengths)[:, None]
    params = gate.init(jax.random.key(0), jnp.asarray(x), jnp.asarray(mask))["params"]
    found = gate.apply({"params": params}, jnp.where(mask[..., None], x, 1e6), jnp.asarray(mask))
    assert found.shape == (2, 11, 3)
    params = jax.tree.map(np.asarray, params)
    for row, length in enumerate(lengths):
        for t in range(length):
            segment = x[row, t // 4 * 4 : min(t // 4 * 4 + 4, length)]
            context = x[row, :length].mean(axis=0) + segment.mean(axis=0)
            hidden = np.maximum(context @ params["squeeze"]["kernel"] + params["squeeze"]["bias"], 0)
            expected = 1 / (1 + np.exp(-(hidden @ params["excite"]["kernel"] + params["excite"]["bias"])))
            np.testing.assert_allclose(found[row, t], expected, rtol=1e-5)


def test_the_full_network_has_the_published_number_of_parameters() -> None:
    config = ModelConfig(
        encoder=part("campplus"),
        pooling=part("tstp"),
        embedding_dim=512,
        embedding_bias=False,
        normalize_embedding=True,
    )
    net = build_speaker_net(config)
    fbank, mask = jax.ShapeDtypeStruct((1, 200, 80), jnp.float32), jax.ShapeDtypeStruct((1, 200), bool)
    shapes = jax.eval_shape(lambda fbank, mask: net.init(jax.random.key(0), fbank, mask, train=False), fbank, mask)
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert abs(total / 7.18e6 - 1) < 0.005  # Wang et al., table 2: 7.18 million


def test_blocks_and_dilations_must_agree() -> None:
    with pytest.raises(UserError, match="block_sizes has 3 entries and dilations 2"):
        CamPlusPlus(dilations=(1, 2)).init(jax.random.key(0), jnp.ones((1, 4, 8)), jnp.ones((1, 4), bool), train=False)
