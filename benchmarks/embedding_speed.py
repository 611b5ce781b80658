"""Compares ways to embed audio files with the same network, from files to vectors, on one machine.

    python benchmarks/embedding_speed.py RUN AUDIO --files 200
    python benchmarks/embedding_speed.py resnet34 AUDIO --torch-python TORCH_ENVIRONMENT/bin/python

The first argument is a work directory, or an encoder with random weights. Ours embeds all files in one call, twice to
show how much two copies of one program differ, and one call per file. The peers take one file after another: ONNX
Runtime with our exported network, and PyTorch with kaldi-native-fbank (``--torch-python``, ResNet34 and TDNN; it needs
torch, soundfile, kaldi-native-fbank, numpy and click). Files are mono at the network's rate, because the peers do not
resample. Contenders are processes that take turns; the first pass of each is not counted. Appends the medians to
``benchmarks/results/embedding_speed.jsonl``.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
from export import random_network, unit
from flax import traverse_util
from race import race
from record import keep
from tabulate import tabulate

from data_prep.corpora.folder import audio_files
from mqmha_jax.config_io import to_dict
from mqmha_jax.interop.embedding_program import embedding_program
from mqmha_jax.interop.export_onnx import write_onnx
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.network_run import write_network_run

WAYS = Path(__file__).parent / "embedding_ways.py"
OURS = {
    "ours": "together",
    "ours again": "together",
    "ours, one by one": "single",
    "ours before the network": "reading",
}
TOLERANCE = 2e-3  # of vectors of unit length; kaldi-native-fbank rounds otherwise


@click.command(context_settings={"show_default": True})
@click.argument("source")
@click.argument("audio", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--files", "number", type=click.IntRange(1), default=100, help="Files, evenly spaced among all.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Turns of each contender.")
@click.option("--torch-python", help="An interpreter with PyTorch and the rest; none: without it.")
def main(source: str, audio: Path, number: int, rounds: int, torch_python: str | None) -> None:
    """Measure, compare, print and record."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = prepare_network(source, folder)
        seconds = choose_files(audio, number, folder)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")  # several contenders need the same programs
        contenders = {way: (sys.executable, module) for way, module in OURS.items()}
        contenders["ONNX Runtime"] = (sys.executable, "onnx")
        if torch_python:
            contenders["PyTorch"] = (torch_python, "torch")
        commands = {
            way: [python, str(WAYS), module, name, f"{folder / way}.npy"]
            for way, (python, module) in contenders.items()
        }
        figures = race(commands, rounds=rounds, milliseconds=1)
        vectors = {way: unit(np.load(f"{folder / way}.npy")) for way in contenders}
    for way, own in figures.items():
        if vectors[way].shape == vectors["ours"].shape:
            own["difference"] = float(np.abs(vectors[way] - vectors["ours"]).max())
    show(figures, len(vectors["ours"]), seconds)
    keep("embedding_speed", {"encoder": encoder, "files": number, "speech_seconds": seconds, "contenders": figures})
    if any(own.get("difference", 0) > TOLERANCE for own in figures.values()):
        raise click.ClickException("The contenders do not compute the same; their speeds cannot be compared.")


def prepare_network(source: str, folder: Path) -> str:
    """Writes the network as each contender reads it; returns the encoder's name."""
    if Path(source).is_dir():
        loaded = load_network(Path(source))
        config, variables = loaded.config, loaded.variables
    else:
        config, variables = random_network(source)
    write_network_run(folder / "run", config, {"source": "benchmark"}, variables, head={})
    write_onnx(folder / "net.onnx", embedding_program(config, variables), {})
    (folder / "settings.json").write_text(json.dumps(to_dict(config)))
    arrays: dict[str, Any] = {}
    for tree in variables.values():
        arrays |= {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()}
    np.savez(folder / "arrays.npz", **arrays)
    return config.model.encoder.name


def choose_files(audio: Path, number: int, folder: Path) -> float:
    """Writes the list of files; returns their seconds of audio."""
    found = list(audio_files(audio))
    chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, number).round().astype(int))]
    (folder / "files.json").write_text(json.dumps([str(path) for path in chosen]))
    return sum(soundfile.info(path).duration for path in chosen)


def show(figures: dict[str, dict[str, float]], files: int, seconds: float) -> None:
    """Prints the table."""
    rows = [
        [
            way,
            files / own["seconds"],
            own["seconds"] / figures["ours"]["seconds"],
            own["processor_seconds"] / figures["ours"]["processor_seconds"],
            own.get("difference", ""),
        ]
        for way, own in figures.items()
    ]
    click.echo(f"{files} files, {seconds / files:.1f} s each on average")
    header = ["", "files/s", "time, of ours", "processor time, of ours", "largest difference"]
    click.echo(tabulate(rows, header, tablefmt="github", floatfmt=(".2f", ".2f", ".2f", ".2f", ".1e")))


if __name__ == "__main__":
    main()
