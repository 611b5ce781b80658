"""Full-size networks have as many parameters as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.models import build_speaker_net

ASP = part("asp", bottleneck=128, channel_wise=True, activation="relu_norm")
CAMPPLUS = {"embedding_bias": False, "normalize_embedding": True}


@pytest.mark.parametrize(
    ("encoder", "pooling", "embedding_dim", "num_features", "options", "millions"),
    [
        ("campplus", part("tstp"), 512, 80, CAMPPLUS, 7.18),  # Wang et al., arXiv 2303.00332
        ("eres2netv2", part("tstp"), 192, 80, {}, 17.8),  # 3D-Speaker, README
        ("simam_resnet34", ASP, 256, 80, {}, 25.2),  # WeSpeaker, examples/voxceleb/v2/README
        ("simam_resnet100", ASP, 256, 80, {}, 50.2),  # the same
        ("redimnet_b0", part("ccasp"), 192, 60, {}, 1.0),  # Yakovlev et al., arXiv 2407.18223
    ],
)
def test_parameters_are_as_many_as_published(encoder, pooling, embedding_dim, num_features, options, millions):
    config = ModelConfig(encoder=part(encoder), pooling=pooling, embedding_dim=embedding_dim, **options)
    net = build_speaker_net(config)
    batch = jax.ShapeDtypeStruct((1, 200, num_features), jnp.float32), jax.ShapeDtypeStruct((1, 200), bool)
    shapes = jax.eval_shape(lambda *batch: net.init(jax.random.key(0), *batch, train=False), *batch)
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))
    assert count / 1e6 == pytest.approx(millions, rel=5e-3)
