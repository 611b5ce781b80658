"""Memory and time of one gradient of head and loss at the paper's size, beside the usual way to write them.

    python benchmarks/head_memory.py [--run]

The figures come from the compiled program (``memory_analysis``), so nothing need be executed; ``--run`` also times it.
"""

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from mqmha_jax.config import LossConfig
from mqmha_jax.losses import LossInputs, build_loss
from mqmha_jax.models import unit_length

BATCH_SIZE, NUM_SPEAKERS, SUB_CENTRES, EMBEDDING_DIM = 512, 17_982, 3, 256
CONFIG = LossConfig(name="am", sub_centres=SUB_CENTRES)


def package_loss(config: LossConfig, embedding: Array, prototypes: Array, speaker: Array) -> Array:
    """The mean loss as training computes it."""
    loss = build_loss(config, num_speakers=NUM_SPEAKERS, embedding_dim=EMBEDDING_DIM)
    params, inputs = {"prototypes": prototypes}, LossInputs(embedding, speaker)
    return loss.apply(params, loss.initial_state, inputs, margin=config.margin, penalty=config.penalty)[0].mean()


def one_hot_loss(embedding: Array, prototypes: Array, speaker: Array) -> Array:
    """The usual way, for AM: a maximum over [B, C, K], one-hot targets, one-hot negatives."""
    embedding, prototypes = unit_length(embedding), unit_length(prototypes)
    cosine = jnp.einsum("be,cke->bck", embedding, prototypes, precision=lax.Precision.HIGHEST).max(axis=2)
    target = jax.nn.one_hot(speaker, NUM_SPEAKERS)
    _, nearest = lax.top_k(lax.stop_gradient(cosine - 2 * target), CONFIG.top_k)
    penalised = jax.nn.one_hot(nearest, NUM_SPEAKERS).sum(axis=1)
    logits = CONFIG.scale * (cosine - CONFIG.margin * target + CONFIG.penalty * penalised)
    return -(jax.nn.log_softmax(logits) * target).sum(axis=1).mean()


def main() -> None:
    """Prints one line per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="also time each program")
    run = parser.parse_args().run
    keys = jax.random.split(jax.random.key(0), 3)
    arguments = (
        jax.random.normal(keys[0], (BATCH_SIZE, EMBEDDING_DIM)),
        jax.random.normal(keys[1], (NUM_SPEAKERS, SUB_CENTRES, EMBEDDING_DIM)),
        jax.random.randint(keys[2], (BATCH_SIZE,), 0, NUM_SPEAKERS),
    )
    print(f"B={BATCH_SIZE} C={NUM_SPEAKERS} K={SUB_CENTRES} E={EMBEDDING_DIM} on {jax.devices()[0].device_kind}")
    print(
        f"[B,C] float32 = {BATCH_SIZE * NUM_SPEAKERS * 4 / 1e6:.0f} MB, prototypes = {arguments[1].nbytes / 1e6:.0f} MB"
    )
    ways: dict[str, Callable[[Array, Array, Array], Array]] = {
        "am": functools.partial(package_loss, CONFIG),
        "am, one-hot": one_hot_loss,
        "aam": functools.partial(package_loss, dataclasses.replace(CONFIG, name="aam")),
    }
    for name, way in ways.items():
        compiled = jax.jit(jax.value_and_grad(way, argnums=(0, 1))).lower(*arguments).compile()
        line = f"{name:12} temporary {compiled.memory_analysis().temp_size_in_bytes / 1e6:6.0f} MB"
        if run:
            jax.block_until_ready(compiled(*arguments))
            start = time.perf_counter()
            value, _ = jax.block_until_ready(compiled(*arguments))
            line += f"  {time.perf_counter() - start:6.2f} s  loss {value:.4f}"
        print(line)


if __name__ == "__main__":
    main()
