"""JAX's contenders of ``head.py``: the package's head and loss, dense and chunked, and the usual one-hot form."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np
from compiled_memory import memory_of
from head_size import MARGIN, PENALTY, SCALE, SUB_CENTRES, TOP_K, HeadSize, draw_inputs, size_options
from jax import Array, lax
from race import available_bytes, serve

from mqmha_jax.config import LossConfig
from mqmha_jax.losses import ClassLayout, LossInputs, build_loss
from mqmha_jax.models import unit_length

LossFunction = Callable[[Array, Array, Array], Array]
CHUNK = 4096


def build_package_loss(size: HeadSize, *, margin: str = "am", chunk: int = 0) -> LossFunction:
    """Returns the mean loss as training computes it."""
    config = LossConfig(name=margin, sub_centres=SUB_CENTRES, scale=SCALE, margin=MARGIN, top_k=TOP_K, penalty=PENALTY)
    loss = build_loss(config, num_speakers=size.classes, embedding_dim=size.embedding_dim, class_chunk=chunk)

    def mean_loss(embedding: Array, prototypes: Array, speaker: Array) -> Array:
        params, inputs = {"prototypes": prototypes}, LossInputs(embedding, speaker)
        return loss.apply(params, loss.initial_state, inputs, margin=MARGIN, penalty=PENALTY)[0].mean()

    return mean_loss


def one_hot_loss(embedding: Array, prototypes: Array, speaker: Array) -> Array:
    """Computes the AM loss in the usual way: a maximum over [B, C, K], one-hot targets, one-hot negatives."""
    embedding, prototypes = unit_length(embedding), unit_length(prototypes)
    cosine = jnp.einsum("be,cke->bck", embedding, prototypes, precision=lax.Precision.HIGHEST).max(axis=2)
    target = jax.nn.one_hot(speaker, len(prototypes))
    _, nearest = lax.top_k(lax.stop_gradient(cosine - 2 * target), TOP_K)
    penalised = jax.nn.one_hot(nearest, len(prototypes)).sum(axis=1)
    logits = SCALE * (cosine - MARGIN * target + PENALTY * penalised)
    return -(jax.nn.log_softmax(logits) * target).sum(axis=1).mean()


def choose_loss(form: str, size: HeadSize) -> LossFunction:
    """Returns the loss function of a name."""
    forms: dict[str, Callable[[], LossFunction]] = {
        "dense": lambda: build_package_loss(size),
        "chunked": lambda: build_package_loss(size, chunk=CHUNK),
        "dense, aam": lambda: build_package_loss(size, margin="aam"),
        "chunked, aam": lambda: build_package_loss(size, margin="aam", chunk=CHUNK),
        "one-hot": lambda: one_hot_loss,
    }
    return forms[form]()


FORMS = ("dense", "chunked", "dense, aam", "chunked, aam", "one-hot")


def num_rows(form: str, size: HeadSize) -> int:
    """Returns the number of rows of the prototypes, which the package pads."""
    return size.classes if form == "one-hot" else ClassLayout(size.classes).num_rows


def compile_form(form: str, size: HeadSize) -> jax.stages.Compiled:
    """Compiles the loss and its gradient for embeddings and prototypes; runs nothing."""
    array = jax.ShapeDtypeStruct
    return (
        jax.jit(jax.value_and_grad(choose_loss(form, size), argnums=(0, 1)))
        .lower(
            array((size.batch_size, size.embedding_dim), jnp.float32),
            array((num_rows(form, size), SUB_CENTRES, size.embedding_dim), jnp.float32),
            array((size.batch_size,), jnp.int32),
        )
        .compile()
    )


@click.command()
@click.argument("form", type=click.Choice(FORMS))
@click.argument("path", type=click.Path(path_type=Path))
@size_options
def main(form: str, path: Path, **numbers: int) -> None:
    """Save the result of FORM at PATH, then take turns."""
    size = HeadSize(**numbers)
    start = time.perf_counter()
    program = compile_form(form, size)
    memory = memory_of(program)
    device = jax.devices()[0]
    opening = {
        "version": jax.__version__,
        "device": device.device_kind,
        "compile_seconds": time.perf_counter() - start,
        "temporary_bytes": memory.temp_size_in_bytes,
        "needs_bytes": memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes,
    }
    on_device = device.memory_stats()
    if opening["needs_bytes"] > (on_device["bytes_limit"] if on_device else available_bytes()):
        print(json.dumps(opening))
        return
    embedding, prototypes, speaker = map(jnp.asarray, draw_inputs(size, num_rows(form, size)))
    own = np.asarray(speaker)

    def work() -> tuple[Array, tuple[Array, Array]]:
        return jax.block_until_ready(program(embedding, prototypes, speaker))

    def save(result: tuple[Array, tuple[Array, Array]]) -> None:
        loss, (of_embedding, of_prototypes) = result
        found: dict[str, Any] = {"0": loss, "1": of_embedding, "2": of_prototypes[own]}
        np.savez(path, **found)

    def device_bytes() -> tuple[int, int]:
        return tuple(device.memory_stats()[key] for key in ("bytes_in_use", "peak_bytes_in_use"))

    serve(work, save, opening, device_bytes if on_device else None)


if __name__ == "__main__":
    main()
