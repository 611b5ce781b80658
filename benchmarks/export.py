"""Compares exported files with the networks that they were made from: embeddings, size, speed and time of the export.

    python benchmarks/export.py AUDIO [ENCODER ...] [--recordings 20] [--longest 60] [--rounds 15] [--run RUN]

Recordings of 0.3 s to ``--longest`` seconds are cut from the audio below AUDIO, joined where it is too short. ONNX
Runtime embeds each alone and five at a time, padded. The networks are of full size, with random weights, or the one of
a run. Differences are the largest between values of embeddings at unit length.

Export times are processor seconds. The other times are medians of embedding ten seconds, in clock and in processor
seconds of all threads: by us (the measure of speech included), by ONNX Runtime, and by ONNX Runtime whose idle threads
sleep instead of spinning, which burns processor seconds. All take turns, and two of them a second time ("again"): the
difference of the same way from itself is what the machine adds. Appends a line per network to
``benchmarks/results/export.jsonl``.
"""

import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import jax.numpy as jnp
import numpy as np
import onnxruntime
from flax import traverse_util
from record import keep

from mqmha_jax.config import Config, FbankSpec, ModelConfig, part
from mqmha_jax.features.audio import read_audio
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.interop import variable_shapes
from mqmha_jax.interop.embedding_program import embedding_program
from mqmha_jax.interop.export_onnx import write_onnx
from mqmha_jax.interop.export_stablehlo import write_stablehlo
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.runs.load_network import load_network

RATE, SHORTEST_S, SPEED_S, ROWS = 16_000, 0.3, 10.0, 5


def cut_recordings(audio: Path, number: int, longest_s: float) -> list[np.ndarray]:
    """Cuts recordings of evenly spaced ratios of duration."""
    files = itertools.cycle(sorted(path for path in audio.rglob("*") if path.suffix in (".flac", ".opus", ".wav")))
    recordings = []
    for duration_s in np.geomspace(SHORTEST_S, longest_s, number):
        wanted = round(duration_s * RATE)
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < wanted:
            parts.append(read_audio(next(files), RATE))
        recordings.append(np.concatenate(parts)[:wanted])
    return recordings


def random_network(encoder: str) -> tuple[Config, dict]:
    """A network of full size whose activations do not grow: float32 could not compute it to 1e-4."""
    mels = 60 if encoder == "redimnet_b0" else 72 if encoder.startswith("redimnet") else 80
    config = Config(model=ModelConfig(encoder=part(encoder), pooling=part("tstp")), fbank=FbankSpec(num_mel_bins=mels))
    rng = np.random.default_rng(0)
    variables = {}
    for path, leaf in variable_shapes(config.model, config.fbank.num_features).items():
        if len(leaf.shape) > 1:
            value = rng.normal(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5
        else:
            value = np.full(leaf.shape, path[-1] in ("scale", "var"))
        variables[path] = jnp.asarray(value, leaf.dtype)
    return config, traverse_util.unflatten_dict(variables)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors at unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def padded(recordings: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Recordings as a batch."""
    samples = np.array([len(recording) for recording in recordings])
    batch = np.zeros((len(recordings), samples.max()), np.float32)
    for row, recording in zip(batch, recordings, strict=True):
        row[: len(recording)] = recording
    return {"waveform": batch, "num_samples": samples}


def time_in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians of clock and processor seconds of each way, which take turns; each round begins with the next one."""
    for way in ways.values():
        way()
    names, clock, processor = [*ways], defaultdict(list), defaultdict(list)
    for first in range(rounds):
        for place in range(len(names)):
            name = names[(first + place) % len(names)]
            start, used = time.perf_counter(), time.process_time()
            ways[name]()
            clock[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - used)
    return {
        f"{name}_{kind}": statistics.median(seconds[name])
        for name in names
        for kind, seconds in (("s", clock), ("processor_s", processor))
    }


def session(path: Path, **entries: str) -> Callable[..., list[np.ndarray]]:
    """ONNX Runtime's function of a file, with entries of its configuration."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in entries.items():
        options.add_session_config_entry(f"session.intra_op.{name}", value)
    return onnxruntime.InferenceSession(path, options).run


def compare(
    config: Config, variables: dict, recordings: list[np.ndarray], folder: Path, rounds: int
) -> dict[str, float]:
    """Exports a network, embeds the recordings, and returns the figures."""
    figures = {}
    start = time.process_time()
    write_onnx(folder / "net.onnx", embedding_program(config, variables), {})
    figures["onnx_export_s"] = time.process_time() - start
    start = time.process_time()
    write_stablehlo(folder / "net.stablehlo", embedding_program(config, variables))
    figures["stablehlo_export_s"] = time.process_time() - start
    write_onnx(folder / "half.onnx", embedding_program(config, variables, dtype="float16"), {})
    for name in ("net.onnx", "net.stablehlo", "half.onnx"):
        figures[f"{name.replace('.', '_')}_mb"] = (folder / name).stat().st_size / 1e6
    run = session(folder / "net.onnx")
    ours = SpeakerEncoder(config, variables)
    expected = unit(ours.embed(recordings, on_warning=lambda _: None).vectors)
    single = np.concatenate([run(None, {"waveform": recording[None]})[0] for recording in recordings])
    groups = [recordings[i : i + ROWS] for i in range(0, len(recordings), ROWS)]
    batched = np.concatenate([run(None, padded(group))[0] for group in groups])
    figures["single_difference"] = float(np.abs(unit(single) - expected).max())
    figures["padded_difference"] = float(np.abs(unit(batched) - expected).max())
    half = session(folder / "half.onnx")
    short = [recording for recording in recordings if len(recording) < SPEED_S * RATE]
    narrow = np.concatenate([half(None, {"waveform": recording[None]})[0] for recording in short])
    figures["half_cosine"] = float((unit(narrow) * expected[: len(short)]).sum(axis=1).min())
    ten = np.resize(recordings[-1], round(SPEED_S * RATE))
    asleep = session(folder / "net.onnx", allow_spinning="0")
    ways = {
        "ours": lambda: ours.embed(ten, on_warning=lambda _: None),
        "onnx": lambda: run(None, {"waveform": ten[None]}),
        "onnx_asleep": lambda: asleep(None, {"waveform": ten[None]}),
    }
    return figures | time_in_turns(ways | {f"{name}_again": ways[name] for name in ("ours", "onnx")}, rounds)


@click.command()
@click.argument("audio", type=click.Path(path_type=Path, exists=True))
@click.argument("encoders", nargs=-1)
@click.option("--recordings", "number", default=20)
@click.option("--longest", default=60.0, help="Seconds.")
@click.option("--rounds", default=15, help="Turns of each way to embed ten seconds.")
@click.option("--run", type=click.Path(path_type=Path), help="Take the network of this run.")
def main(audio: Path, encoders: tuple[str, ...], number: int, longest: float, rounds: int, run: Path | None) -> None:
    """Compares each encoder and prints a line for it."""
    recordings = cut_recordings(audio, number, longest)
    shape = {"recordings": number, "longest_s": longest, "rounds": rounds}
    networks = {"run": run} if run else dict.fromkeys(encoders or ENCODERS)
    for name, source in networks.items():
        if source:
            loaded = load_network(source)
            name, config, variables = loaded.config.model.encoder.name, loaded.config, loaded.variables
        else:
            config, variables = random_network(name)
        with tempfile.TemporaryDirectory() as folder:
            figures = compare(config, variables, recordings, Path(folder), rounds)
        rounded = {key: float(f"{value:.3g}") for key, value in figures.items()}
        print(name, rounded, flush=True)
        keep("export", {"encoder": name, "weights": "trained" if source else "random", **shape, **rounded})


if __name__ == "__main__":
    main()
