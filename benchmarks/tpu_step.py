"""Asks the TPU's compiler for the cost of a training step on one chip, by stage of the network; runs nothing.

    python benchmarks/tpu_step.py --bins 80 --plain --folded

The paper's recipe with 64 utterances of 200 frames in bfloat16 (``configs/voxceleb_resnet34_mqmha.py``; 81 bins are
its 80 and the energy), with frequencies folded into channels as on a TPU, and without (``models/folding.py``). Bytes
refer to main memory and include the padding of layouts; FLOPs count the products as compiled, zeros included; cycles
are the compiler's own estimate. Needs the extra ``plan``; each program takes minutes to compile. Appends to
results/tpu_step.jsonl.
"""

import os
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import click
from record import keep

STAGE = re.compile(r"stem|stage\d|pooling|embedding|head")


@click.command(context_settings={"show_default": True})
@click.option("--bins", type=click.Choice(["80", "81"]), default="80", help="Mel bins, energy included.")
@click.option("--batch-size", default=64, help="Number of utterances.")
@click.option("--chip", default="v5e", help="v4, v5e, v5p or v6e.")
@click.option("--plain", is_flag=True, help="Compile without folding.")
@click.option("--folded", is_flag=True, help="Compile with folding.")
def main(bins: str, batch_size: int, chip: str, plain: bool, folded: bool) -> None:
    """Compile, print and record."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    for name, wanted in {"plain": plain, "folded": folded}.items():
        if wanted:
            figures = compile_step(name, bins, batch_size, chip)
            print_figures(name, figures)
            keep("tpu_step", {"bins": int(bins), "batch_size": batch_size, "chip": chip, "program": name, **figures})


def compile_step(name: str, bins: str, batch_size: int, chip_name: str) -> dict[str, Any]:
    """Returns milliseconds at the chip's peaks and by the compiler's estimate, in total and by stage."""
    from mqmha_jax import parallel
    from mqmha_jax.config_io import load_config
    from mqmha_jax.plan.hbm_traffic import instruction_bytes
    from mqmha_jax.plan.hlo import parse_hlo
    from mqmha_jax.plan.matrix_flops import count_matrix_flops
    from mqmha_jax.plan.topology import Topology, parse_topology, topology_devices
    from mqmha_jax.train.build import build_training

    chip = parse_topology(f"{chip_name}-16").chip
    options = [
        f"data.batch_size={batch_size}",
        "mesh.data=1",
        "mesh.model=1",
        f"fbank.use_energy={bins == '81'}".lower(),
    ]
    recipe = Path(__file__).parent.parent / "configs" / "voxceleb_resnet34_mqmha.py"
    config = load_config(recipe, options)
    mesh = parallel.device_mesh(config.mesh, topology_devices(Topology(chip_name, chip, (1,) * chip.torus_dims)))
    lanes = 1 if name == "plain" else parallel.vector_lanes(mesh)
    with mock.patch.object(parallel, "vector_lanes", return_value=lanes):
        lowered = build_training(config, num_speakers=17_982, mesh=mesh).lower()
    started = time.perf_counter()
    program = lowered.compile()
    seconds = time.perf_counter() - started
    hlo = parse_hlo(program.as_text() or "")
    stages: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for computation, instruction in hlo.instructions():
        found = STAGE.search(instruction.attributes)
        stage = stages[found[0] if found else "head, optimizer and copies"]
        if computation not in hlo.fused:
            size = instruction_bytes(instruction, hlo.computations[computation], hlo)
            stage[0] += hlo.runs[computation] * size / chip.hbm_bandwidth * 1e3
        stage[1] += hlo.runs[computation] * instruction.cycles / chip.clock_hz * 1e3
    memory = program.memory_analysis()
    return {
        "compile_seconds": seconds,
        "temporary_bytes": memory.temp_size_in_bytes if memory else None,
        "flops": count_matrix_flops(hlo),
        "compute_ms": count_matrix_flops(hlo) / chip.peak_flops * 1e3,
        "memory_ms": sum(traffic for traffic, _ in stages.values()),
        "estimate_ms": sum(cycles for _, cycles in stages.values()),
        "stages": {stage: {"memory_ms": m, "estimate_ms": e} for stage, (m, e) in sorted(stages.items())},
    }


def print_figures(name: str, figures: dict[str, Any]) -> None:
    """Prints one table."""
    click.echo(
        f"{name}: compiled in {figures['compile_seconds']:.0f} s; {figures['flops'] / 1e12:.2f} TFLOP, "
        f"{figures['compute_ms']:.1f} ms at the peak"
    )
    rows = {**figures["stages"], "together": figures}
    for stage, own in rows.items():
        click.echo(f"  {stage:28s}{own['memory_ms']:7.1f} ms of memory traffic{own['estimate_ms']:8.1f} ms estimated")


if __name__ == "__main__":
    main()
