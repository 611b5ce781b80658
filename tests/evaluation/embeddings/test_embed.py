"""Embeddings do not depend on the batch: not on its other rows, not on padding, not on the order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.data.eval_pipeline import EvalBatch
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder, _compiled_for, embed
from mqmha_jax.models.speaker_net import build_speaker_net

F = 16
LENGTHS = (37, 117, 40, 12, 64, 39, 13, 62, 131)
SMALL_BATCHES = {"frames_per_batch": 400}  # of two rows, padded up to twelve times their length, and a filler row


class Frames:
    """Utterances of random frames, as shards or audio would hold them."""

    def __init__(self, lengths):
        rng = np.random.default_rng(0)
        self.utterances = tuple(f"utterance{i}" for i in range(len(lengths)))
        self.num_frames = np.array(lengths)
        self._fbanks = [rng.normal(5, 3, (length, F)).astype(np.float16) for length in lengths]

    def fbank(self, i, /):
        return self._fbanks[i]


def build(**encoder_and_pooling):
    return build_speaker_net(ModelConfig(embedding_dim=8, **encoder_and_pooling))


@pytest.fixture(scope="module")
def network():
    """A ResNet with MQMHA pooling, all values random: running means and biases that are not zero let padding leak."""
    parts = {
        "encoder": part("resnet18", width=4, stage_sizes=[1, 1, 1, 1]),
        "pooling": part("mqmha", heads=4, queries=2),
    }
    net = build(**parts)
    fbank, mask = jnp.zeros((1, 16, F)), jnp.ones((1, 16), bool)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), fbank, mask, train=False))
    rng = np.random.default_rng(1)

    def value(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = max(1, np.prod(leaf.shape[:-1]))
        return rng.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

    return parts, net, jax.tree_util.tree_map_with_path(value, shapes)


def units(embeddings):
    return embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)


def test_batch_of_mixed_lengths_equals_one_by_one(network):
    _, net, variables = network
    source = Frames(LENGTHS)
    embedder = Embedder(net, variables)
    embeddings = embed(embedder, source, **SMALL_BATCHES)
    assert embeddings.ids == source.utterances
    assert embeddings.vectors.shape == (len(LENGTHS), 8)
    assert embeddings.vectors.dtype == np.float32
    alone = np.concatenate(
        [
            embedder(EvalBatch(source.fbank(i)[None].astype(np.float32), np.array([length]), np.array([i])))[1]
            for i, length in list(enumerate(LENGTHS))[:4]
        ]
    )
    alone /= np.linalg.norm(alone, axis=1, keepdims=True)
    np.testing.assert_allclose(units(embeddings)[:4], alone, atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3  # utterances differ, or nothing would be shown


def test_mean_normalisation_removes_a_constant_channel(network):
    _, net, variables = network
    source, louder = Frames(LENGTHS), Frames(LENGTHS)
    louder._fbanks = [fbank + np.float16(2) for fbank in louder._fbanks]
    embedder = Embedder(net, variables)
    # Adding 2 rounds in float16: the frames move by up to 2^-7, the embedding by less than a hundredth.
    np.testing.assert_allclose(
        units(embed(embedder, louder, **SMALL_BATCHES)), units(embed(embedder, source, **SMALL_BATCHES)), atol=1e-2
    )


def test_networks_of_equal_configuration_share_compiled_programs(network):
    parts, net, variables = network
    embed(Embedder(net, variables), Frames(LENGTHS), **SMALL_BATCHES)
    program = _compiled_for("cpu")
    compiled = program._cache_size()
    embed(Embedder(build(**parts), jax.tree.map(lambda x: 2 * x, variables)), Frames(LENGTHS), **SMALL_BATCHES)
    assert program._cache_size() == compiled


def test_a_source_without_utterances_is_refused(network):
    _, net, variables = network
    with pytest.raises(UserError, match="the source has no utterances"):
        embed(Embedder(net, variables), Frames(()))
