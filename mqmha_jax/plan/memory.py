"""Splits a chip's memory by class, and says what to change when it is not enough."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from mqmha_jax.config import Config
from mqmha_jax.plan.compiled import CompiledStep


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one chip by class. None is unknown, because the compiler refused a program that does not fit.

    Attributes:
      network: parameters and running statistics.
      head: prototypes.
      optimizer: state of the optimizer.
      batch: the chip's share of the batch.
      other: counters, averages, state of losses.
      padding: added to the above by the layout in memory.
      temporaries: activations and scratch.
      outputs: metrics, and what does not take the place of the old state.
      code: the program.
      needed: the sum.
      capacity: the chip's memory, or the part that the compiler may use where it said so.
    """

    network: int
    head: int
    optimizer: int
    batch: int
    other: int
    padding: int | None
    temporaries: int
    outputs: int | None
    code: int | None
    needed: int
    capacity: int


def split_memory(state: Any, batch: Mapping[str, Any], step: CompiledStep, hbm_bytes: int) -> Memory:
    """Splits the compiler's account of a chip's memory.

    Args:
      state: shapes, types and shardings of the training state.
      batch: shapes, types and shardings of the batch.
      step: the compiler's answer.
      hbm_bytes: capacity of the chip.
    """
    network = shard_bytes((state.params["net"], state.batch_stats))
    head = shard_bytes(state.params["head"])
    optimizer = shard_bytes(state.opt_state)
    share = shard_bytes(dict(batch))
    other = shard_bytes(state) - network - head - optimizer
    known = network + head + optimizer + share + other
    temporaries = step.temporary_bytes or step.needed_bytes - known
    return Memory(
        network=network,
        head=head,
        optimizer=optimizer,
        batch=share,
        other=other,
        padding=step.argument_bytes - known if step.fits else None,
        temporaries=temporaries,
        outputs=step.output_bytes if step.fits else None,
        code=step.code_bytes if step.fits else None,
        needed=step.needed_bytes or known + temporaries,
        capacity=hbm_bytes if step.fits else step.limit_bytes,
    )


def shard_bytes(tree: PyTree) -> int:
    """Adds up the bytes that one device holds of a tree of shapes with shardings."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def list_remedies(memory: Memory, config: Config, *, logits_bytes: int) -> list[str]:
    """Lists what to change to need less memory, the largest class first.

    Args:
      memory: memory of a chip.
      config: the experiment.
      logits_bytes: size of the chip's share of the cosines ``[B,C,K]`` if it holds all of them at once.
    """
    activations = []
    if not config.mesh.class_chunk and logits_bytes > memory.temporaries / 4:
        activations.append("mesh.class_chunk=4096 (the head's cosines are a large part)")
    if not config.model.rematerialize:
        activations.append("model.rematerialize=true")
    if config.model.compute_dtype == "float32":
        activations.append("model.compute_dtype=bfloat16")
    activations.append(f"optimizer.accumulate={2 * config.optimizer.accumulate}")
    activations.append("a smaller data.batch_size or more chips")
    head = [f"mesh.model={2 * max(1, config.mesh.model)} or more (cuts the classes over more chips)"]
    optimizer = ["optimizer.name=sgd (half of AdamW's state)"] if config.optimizer.name == "adamw" else []
    classes = {
        "activations and temporaries": (memory.temporaries, activations),
        "the head's prototypes and their optimizer state": (2 * memory.head, head),
        "optimizer state": (memory.optimizer, optimizer),
    }
    ordered = sorted(classes.items(), key=lambda item: -item[1][0])
    return [f"{name} ({size / 2**30:.2f} GiB): {'; '.join(ways)}" for name, (size, ways) in ordered if ways]
