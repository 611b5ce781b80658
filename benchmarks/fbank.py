"""Compares log-mel filterbanks of real speech: ours, kaldi-native-fbank and torchaudio.

    python benchmarks/fbank.py SPEECH --peer-python PATH_OF_A_PYTHON_WITH_THEM

SPEECH is any folder of audio, which the script cuts into pieces of 8 s. All contenders get the same waveforms, in
processes that take turns, on one core and on all. Processor seconds count the work of all threads, so that other
programs on the machine disturb little. Appends the result to ``benchmarks/results/fbank.jsonl``.
"""

import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from race import race
from record import keep

from data_prep.corpora.folder import audio_files
from mqmha_jax.config import FbankSpec
from mqmha_jax.features.audio import read_audio

HERE = Path(__file__).parent
SECONDS = 8.0
OURS, KALDI = "extracting", "kaldi"
TOLERANCE = 0.05  # natural logarithm of power, maximum over millions of values; mostly float32 rounding in silence


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--minutes", type=click.FloatRange(min=0.2), default=10.0, help="Minutes of speech.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Number of turns of each contender.")
@click.option("--peer-python", default=sys.executable, help="An interpreter with kaldi-native-fbank and torchaudio.")
@click.option("--without", multiple=True, type=click.Choice(["kaldi", "torchaudio"]), help="Leave a contender out.")
def main(speech: Path, minutes: float, rounds: int, peer_python: str, without: tuple[str, ...]) -> None:
    """Measure, compare, print and record."""
    pythons = dict.fromkeys((OURS, "jitted", "batched"), sys.executable)
    pythons |= {name: peer_python for name in (KALDI, "torchaudio") if name not in without}
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        hours = save_speech(speech, Path(folder), minutes)
        for cores, options in (("one core", ["--one-core"]), ("all cores", [])):
            commands = {
                name: [python, str(HERE / "fbank_ways.py"), name, folder, *options] for name, python in pythons.items()
            }
            found = race(commands, rounds=rounds, milliseconds=1)
            figures[cores] = {name: speeds(row, hours) for name, row in found.items()}
        differences = {name: difference(Path(folder), name) for name in pythons}
    report(figures, differences, hours)
    keep("fbank", {"hours": round(hours, 4), "rounds": rounds, **figures, "difference_from_extracting": differences})


def save_speech(speech: Path, folder: Path, minutes: float) -> float:
    """Saves pieces of equal length and returns their hours."""
    rate_hz = FbankSpec().sample_rate_hz
    length, wanted = int(SECONDS * rate_hz), int(np.ceil(minutes * 60 / SECONDS))
    parts: list[np.ndarray] = []
    for path in audio_files(speech):
        parts.append(read_audio(path, rate_hz))
        if sum(map(len, parts)) >= wanted * length:
            break
    samples = np.concatenate(parts)[: wanted * length]
    pieces = len(samples) // length
    if pieces == 0:
        raise click.BadParameter(f"{speech} holds less than {SECONDS:g} s of speech.", param_hint="SPEECH")
    np.save(folder / "waveforms.npy", samples[: pieces * length].reshape(pieces, length))
    return pieces * SECONDS / 3600


def speeds(row: dict[str, float], hours: float) -> dict[str, float]:
    """Returns hours of audio per second, by processor time and by the clock."""
    return {
        "hours_per_processor_second": hours / row["processor_seconds"],
        "hours_per_second": hours / row["seconds"],
    }


def difference(folder: Path, name: str) -> dict[str, float]:
    """Returns the maximum and the root mean square of the difference from ours, over all values.

    Raises:
      click.ClickException: the filterbanks are not the same.
    """
    off = np.load(folder / f"{name}.npy") - np.load(folder / f"{OURS}.npy")
    found = {"largest": float(np.abs(off).max()), "rms": float(np.sqrt(np.mean(np.square(off, dtype=np.float64))))}
    if found["largest"] > TOLERANCE:
        raise click.ClickException(f"{name!r} differs from ours by {found}.")
    return found


def report(
    figures: dict[str, dict[str, dict[str, float]]], differences: dict[str, dict[str, float]], hours: float
) -> None:
    """Prints the table."""
    click.echo(f"{hours:.2f} hours of speech; hours per processor second (x kaldi-native-fbank), and by the clock")
    for cores, found in figures.items():
        click.echo(f"\n{cores:14}{'processor':>12}{'x kaldi':>9}{'clock':>9}{'largest difference':>20}{'rms':>10}")
        for name, row in found.items():
            by_processor = row["hours_per_processor_second"]
            ratio = by_processor / found[KALDI]["hours_per_processor_second"] if KALDI in found else float("nan")
            click.echo(
                f"{name:14}{by_processor:12.2f}{ratio:9.1f}{row['hours_per_second']:9.2f}"
                f"{differences[name]['largest']:20.1e}{differences[name]['rms']:10.1e}"
            )


if __name__ == "__main__":
    main()
