"""Small networks of every encoder and pooling in the registry, with random variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.models import SpeakerNet, build_speaker_net

NUM_FEATURES = 8
SMALL_RESNET = {"width": 4, "stage_sizes": [1, 1], "strides": [1, 2]}
SMALL_RES2NET = {"width": 4, "base_width": 32, "stage_sizes": [1, 1, 1, 1]}
SMALL_REDIMNET = {"channels": 4, "stages": [[1, 1, 1, None], [2, 1, 2, 4]], "group_divisor": 2}
# One depth of each kind of block stands for its family.
SMALL_ENCODERS = {
    "resnet18": SMALL_RESNET,
    "resnet50": SMALL_RESNET,
    "simam_resnet34": SMALL_RESNET,
    "tdnn": {"channels": 8, "final_channels": 8, "kernel_sizes": [5, 3], "dilations": [1, 2], "strides": [2, 1]},
    "xvector": {"channels": 8, "final_channels": 8, "kernel_sizes": [3, 3], "dilations": [1, 2]},
    "campplus": {
        "width": 4,
        "first_channels": 8,
        "growth": 4,
        "bottleneck_factor": 2,
        "block_sizes": [2, 2],
        "dilations": [1, 2],
        "segment_frames": 3,
    },
    "ecapa512": {"channels": 16, "final_channels": 8, "dilations": [2, 3], "scale": 4, "bottleneck": 3},
    "res2net": SMALL_RES2NET,
    "eres2net": SMALL_RES2NET,
    "repvgg_tiny_a0": {"stage_sizes": [1, 2, 1, 1], "width_multipliers": [0.0625, 0.03125, 0.015625, 0.015625]},
    "redimnet_b1": SMALL_REDIMNET,
    "redimnet_b3": SMALL_REDIMNET,
}
SMALL_POOLINGS = {"tap": {}, "tstp": {}, "mqmha": {"heads": 4, "queries": 2}, "ccasp": {"bottleneck": 3}}


def padded_batch(num_frames: int, lengths: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The same utterances for every padding, which holds huge numbers that must not matter."""
    fbank = np.random.default_rng(0).normal(size=(len(lengths), 40, NUM_FEATURES)).astype(np.float32)[:, :num_frames]
    mask = np.arange(num_frames)[None, :] < np.array(lengths)[:, None]
    fbank[~mask] = 1e6
    return jnp.asarray(fbank), jnp.asarray(mask)


def small_model(encoder: str, pooling: str, **options: object) -> ModelConfig:
    """The configuration of a small network; ``options`` are the pooling's, in place of those of ``SMALL_POOLINGS``."""
    return ModelConfig(
        encoder=part(encoder, **SMALL_ENCODERS[encoder]),
        pooling=part(pooling, **(options or SMALL_POOLINGS.get(pooling, {}))),
        embedding_dim=6,
        normalize_pooled=True,
        normalize_embedding=True,
    )


def draw_variables(net: SpeakerNet) -> dict:
    """Random variables from NumPy, because compiling ``init`` takes seconds."""
    shapes = jax.eval_shape(functools.partial(net.init, jax.random.key(0), train=False), *padded_batch(16, (16, 9)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), leaf.dtype), shapes)
    variables["batch_stats"] = jax.tree.map(lambda x: x + 1, variables["batch_stats"])  # variances are positive
    return variables


@functools.cache
def small_net(encoder: str, pooling: str) -> tuple[SpeakerNet, dict]:
    """A network and random variables."""
    net = build_speaker_net(small_model(encoder, pooling))
    return net, draw_variables(net)
