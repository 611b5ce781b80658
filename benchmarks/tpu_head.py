"""Asks the TPU's compiler for the cost of head and loss on a chip, with gradient and one update; runs nothing.

    python benchmarks/tpu_head.py
    PYTHONPATH=../before python benchmarks/tpu_head.py --name before      # the package of another checkout

The loss is AM-softmax with three sub-centres and the inter-topK penalty on 64 utterances. Traffic and temporaries refer
to main memory and include the padding of layouts. Needs the extra ``plan``. Appends to
``benchmarks/results/tpu_head.jsonl``.
"""

import os
from typing import Any

import click
from head_size import SUB_CENTRES, HeadSize
from record import keep

SIZES = ((17_982, 0), (17_982, 4096), (200_000, 0))
"""Number of classes, and how many of them the loss holds at once; 0: all."""


@click.command(context_settings={"show_default": True})
@click.option("--name", default="this", help="Name of the measurement in the record.")
@click.option("--chip", default="v5e", help="v4, v5e, v5p or v6e.")
@click.option("--embedding-dim", default=512, help="E.")
def main(name: str, chip: str, embedding_dim: int) -> None:
    """Compile, print and record."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    rows = [compile_update(HeadSize(classes, 64, embedding_dim), chunk, chip) for classes, chunk in SIZES]
    for row in rows:
        click.echo(
            f"C={row['classes']:,} chunk={row['chunk']}: {row['memory_ms']:.2f} ms of memory traffic, "
            f"{row['estimate_ms']:.2f} ms estimated, {row['temporary_bytes'] / 1e6:.0f} MB of temporaries"
        )
    keep("tpu_head", {"name": name, "chip": chip, "sizes": rows})


def compile_update(size: HeadSize, chunk: int, chip_name: str) -> dict[str, Any]:
    """Compiles the update for one chip and returns its figures."""
    import jax
    import jax.numpy as jnp
    from head_jax import build_package_loss, num_rows

    from mqmha_jax.plan.hbm_traffic import count_hbm_bytes
    from mqmha_jax.plan.hlo import parse_hlo
    from mqmha_jax.plan.topology import Topology, parse_topology, topology_devices

    chip = parse_topology(f"{chip_name}-16").chip
    device = topology_devices(Topology(chip_name, chip, (1,) * chip.torus_dims))[0]
    place = jax.sharding.SingleDeviceSharding(device)

    def array(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    @jax.jit
    def update(embedding: Any, prototypes: Any, speaker: Any, rate: Any) -> Any:
        loss = build_package_loss(size, chunk=chunk)
        value, (to_embedding, change) = jax.value_and_grad(loss, argnums=(0, 1))(embedding, prototypes, speaker)
        return value, to_embedding, prototypes - rate * change

    prototypes = array((num_rows("dense", size), SUB_CENTRES, size.embedding_dim))
    embedding, speaker = array((size.batch_size, size.embedding_dim)), array((size.batch_size,), jnp.int32)
    program = update.lower(embedding, prototypes, speaker, array(())).compile()
    hlo = parse_hlo(program.as_text() or "")
    memory = program.memory_analysis()
    cycles = sum(hlo.runs[name] * instruction.cycles for name, instruction in hlo.instructions())
    return {
        **size._asdict(),
        "chunk": chunk,
        "memory_ms": count_hbm_bytes(hlo) / chip.hbm_bandwidth * 1e3,
        "estimate_ms": cycles / chip.clock_hz * 1e3,
        "temporary_bytes": memory.temp_size_in_bytes if memory else None,
    }


if __name__ == "__main__":
    main()
