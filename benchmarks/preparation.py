"""Measures the speed and memory of preparing shards from audio and of reading crops from shards.

    python benchmarks/preparation.py throughput SPEECH WORK     # SPEECH: any folder of audio
    python benchmarks/preparation.py reading WORK               # from the shards that throughput left in WORK
    python benchmarks/preparation.py memory WORK --utterances 100000

It measures two alternatives beside ours: the same decoding followed by kaldi-native-fbank, if installed, and an ffmpeg
process per file followed by our filterbank, if there is an ffmpeg program (the package imageio-ffmpeg has one).
Appends the results to ``benchmarks/results/preparation.jsonl``.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import absl.flags
import click
import numpy as np
import soundfile
from record import keep

from data_prep.build_shard import build_shard
from data_prep.build_shards import build_shards
from data_prep.manifest import Recording
from data_prep.measures import waveform_measures
from data_prep.ordered_map import num_cores
from data_prep.shard_options import ShardOptions
from data_prep.versions import VersionPlan
from mqmha_jax.augment.waveform import change_speed
from mqmha_jax.config import DataConfig, FbankSpec
from mqmha_jax.data.shard_file import ShardFileWriter, UtteranceFbank
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.features.audio import read_audio
from mqmha_jax.features.fbank import WAVEFORM_SCALE, extract_fbank
from mqmha_jax.features.speech_evidence import measure_speech

SPEC = FbankSpec()
RATE = SPEC.sample_rate_hz
SUFFIXES = (".wav", ".flac", ".m4a")
SPEEDS = (1.0, 0.9, 1.1)
UTTERANCE_S = 8.0
READING_BATCH = 128

VOXCELEB2_DEV_HOURS = 1_092_009 * 7.8 / 3600
"""Utterances and their mean length, from the corpus' paper (Chung et al. 2018, arXiv 1806.05622)."""


@click.group()
def main() -> None:
    """Measure the preparation of data."""
    absl.flags.FLAGS.mark_as_parsed()  # grain's workers


def note(kind: str, figures: dict[str, Any]) -> None:
    """Prints a result and keeps it."""
    record = {"kind": kind, **figures}
    click.echo(json.dumps(record, indent=1))
    keep("preparation", record)


# ---- from audio to shards


@main.command()
@click.argument("speech", type=click.Path(path_type=Path))
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--minutes", default=30.0, help="Minutes of audio in each format.")
@click.option("--passes", default=3, help="Number of measurements of each way, in turns; the best counts.")
def throughput(speech: Path, work: Path, minutes: float, passes: int) -> None:
    """Measure hours of audio per hour, by format, stage and number of cores.

    Figures for one core use processor seconds, so that other processes disturb little; those for all cores use the
    clock.
    """
    files = {suffix: _inputs(speech, work / suffix.strip("."), suffix, minutes) for suffix in SUFFIXES}
    hours = len(files[".wav"]) * UTTERANCE_S / 3600
    ways = _ways()
    best: dict[str, dict[str, float]] = {suffix: {} for suffix in SUFFIXES}
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    extract_fbank(np.zeros(int(UTTERANCE_S * RATE), np.float32), SPEC)  # compiles
    for _ in range(passes):
        for suffix in SUFFIXES:
            for name, way in ways.items():
                seconds = _cpu_seconds(partial(list, map(way, files[suffix])))
                best[suffix][name] = min(seconds, best[suffix].get(name, np.inf))
            for name, seconds in _stages(files[suffix], work).items():
                best[suffix][name] = min(seconds, best[suffix].get(name, np.inf))
            for speeds in ((1.0,), SPEEDS):
                name = f"whole job, {len(speeds)} speeds"
                seconds = _cpu_seconds(partial(_whole, files[suffix], work, speeds))
                best[suffix][name] = min(seconds, best[suffix].get(name, np.inf))
    os.sched_setaffinity(0, cores)
    figures = {
        suffix: {name: round(hours * 3600 / seconds, 1) for name, seconds in own.items()}
        for suffix, own in best.items()
    }
    one_core = figures[".m4a"][f"whole job, {len(SPEEDS)} speeds"]
    projected = {str(count): round(VOXCELEB2_DEV_HOURS / one_core / count, 2) for count in (2, 16, 64)}
    note(
        "throughput",
        {
            "hours of audio": round(hours, 3),
            "hours of audio per hour of one core": figures,
            "all cores": _all_cores(files, work, hours),
            "hours for VoxCeleb2-dev from m4a at three speeds, by cores, if they do not wait for each other": projected,
        },
    )


def _inputs(speech: Path, folder: Path, suffix: str, minutes: float) -> list[Path]:
    """Makes utterances of equal length in one format from the speech in a folder."""
    wanted = int(minutes * 60 / UTTERANCE_S)
    paths = [folder / f"{number:05d}{suffix}" for number in range(wanted)]
    folder.mkdir(parents=True, exist_ok=True)
    if all(path.exists() for path in paths):
        return paths
    pieces: list[np.ndarray] = []
    for source in sorted(path for path in speech.rglob("*") if path.suffix in (".opus", ".flac", ".wav")):
        pieces.append(read_audio(source, RATE))
        if sum(map(len, pieces)) >= wanted * UTTERANCE_S * RATE:
            break
    signal = np.resize(np.concatenate(pieces), int(wanted * UTTERANCE_S * RATE))
    for path, waveform in zip(paths, signal.reshape(wanted, -1), strict=True):
        if suffix == ".m4a":
            _write_m4a(path, waveform)
        else:
            soundfile.write(path, waveform, RATE)
    return paths


def _write_m4a(path: Path, waveform: np.ndarray) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono", bit_rate=64_000)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform[None]), format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def _ways() -> dict[str, Callable[[Path], Any]]:
    """Returns the ways from a file to its filterbank: ours and the alternatives."""
    ways: dict[str, Callable[[Path], Any]] = {
        "decode + our fbank": lambda path: extract_fbank(read_audio(path, RATE), SPEC)
    }
    if importlib.util.find_spec("kaldi_native_fbank"):
        ways["decode + kaldi-native-fbank"] = lambda path: _kaldi(read_audio(path, RATE))
    else:
        click.echo("kaldi-native-fbank is not installed: not compared.")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None and importlib.util.find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    if ffmpeg:
        ways["ffmpeg process per file + our fbank"] = lambda path: extract_fbank(_ffmpeg(ffmpeg, path), SPEC)
    else:
        click.echo("There is no ffmpeg program: not compared.")
    return ways


def _kaldi(waveform: np.ndarray) -> np.ndarray:
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = SPEC.window
    options.mel_opts.num_bins = SPEC.num_mel_bins
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(RATE, (waveform * WAVEFORM_SCALE).tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])


def _ffmpeg(program: str, path: Path) -> np.ndarray:
    output = ["-f", "f32le", "-ac", "1", "-ar", str(RATE), "pipe:1"]
    done = subprocess.run([program, "-v", "error", "-i", f"file:{path}", *output], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32)


def _stages(paths: list[Path], work: Path) -> dict[str, float]:
    """Measures the seconds of each stage alone."""
    waveforms: list[np.ndarray] = []
    fbanks: list[np.ndarray] = []
    writer = ShardFileWriter(work / "stages", SPEC)

    def write() -> None:
        for number, fbank in enumerate(fbanks):
            writer.add(UtteranceFbank(str(number), "s", fbank))
        writer.close()

    return {
        "stage decode": _cpu_seconds(lambda: waveforms.extend(read_audio(path, RATE) for path in paths)),
        "stage speed 0.9": _cpu_seconds(lambda: [change_speed(waveform, 0.9) for waveform in waveforms]),
        "stage speech": _cpu_seconds(lambda: [measure_speech(waveform, RATE) for waveform in waveforms]),
        "stage measures": _cpu_seconds(lambda: [waveform_measures(waveform, RATE) for waveform in waveforms]),
        "stage fbank": _cpu_seconds(lambda: fbanks.extend(extract_fbank(waveform, SPEC) for waveform in waveforms)),
        "stage write": _cpu_seconds(write),
    }


def _whole(paths: list[Path], work: Path, speeds: tuple[float, ...]) -> None:
    plan = VersionPlan(speeds=speeds)
    options = ShardOptions(spec=SPEC, plan=plan, coding="float16", timeout_seconds=600)
    build_shard(_recordings(paths), work / "whole", work / "whole.npz", options=options)


def _recordings(paths: list[Path]) -> list[Recording]:
    return [Recording(path.name, f"s{number % 100}", path) for number, path in enumerate(paths)]


def _all_cores(files: dict[str, list[Path]], work: Path, hours: float) -> dict[str, Any]:
    """Measures whole commands with one process and with all, including start and compilation.

    On a machine with other work, the figure per processor second times the number of cores says what an idle machine
    would do.
    """
    found: dict[str, Any] = {"cores": num_cores()}
    for suffix in SUFFIXES:
        for num_workers in (1, num_cores()):
            before = os.times()
            _built(files[suffix], work / f"shards{suffix}", num_workers, "float16")
            after = os.times()
            found[f"{suffix}, {num_workers} processes"] = {
                "by the clock": round(hours * 3600 / (after.elapsed - before.elapsed), 1),
                "per processor second": round(hours * 3600 / (sum(after[:4]) - sum(before[:4])), 1),
            }
    _built(files[".wav"], work / "shards.uint8", num_cores(), "uint8")
    start = [
        _time_once(partial(_built, files[".wav"][:2], work / "few", num_workers, "float16"))
        for num_workers in (1, num_cores())
    ]
    return found | {"seconds to start and compile": [round(seconds, 1) for seconds in start]}


def _built(paths: list[Path], output: Path, num_workers: int, coding: Any) -> None:
    shutil.rmtree(output, ignore_errors=True)
    options: dict[str, Any] = {"spec": SPEC, "provenance": {}, "max_rejected": 0, "progress": False, "coding": coding}
    build_shards(_recordings(paths), output, num_workers=num_workers, **options)


def _cpu_seconds(work: Callable[[], Any]) -> float:
    """Returns the processor seconds of this process and of its ended child processes."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def _time_once(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# ---- from shards to crops


@main.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--batches", default=200, help="Number of timed batches of 128 crops.")
@click.option("--crop-frames", default=200, help="Frames of a crop.")
@click.option("--latency-ms", default=20.0, help="Latency of a simulated read from an object store.")
def reading(work: Path, batches: int, crop_frames: int, latency_ms: float) -> None:
    """Measure crops per second with 0, 1 and 2 workers, and bytes per crop, for both codings; also with slow reads."""
    found: dict[str, Any] = {}
    for coding, name in (("float16", "shards.wav"), ("uint8", "shards.uint8")):
        shards = open_shards(work / name)
        files = shards.info.files
        bytes_per_record = sum(file.num_bytes for file in files) / sum(file.num_records for file in files)
        # A crop at a random place of a long utterance covers one record and parts of others.
        records = 1 + (crop_frames - 1) / shards.info.segment_frames
        own: dict[str, Any] = {"bytes per crop": round(bytes_per_record * records)}
        for num_workers in (0, 1, 2):
            own[f"crops per second, {num_workers} workers"] = _crops_per_second(
                shards, batches, crop_frames, num_workers=num_workers
            )
        own["MB/s for 4,000 crops per second"] = round(4000 * own["bytes per crop"] / 1e6)
        found[coding] = own
    shards = open_shards(work / "shards.wav")
    with _slow_reads(latency_ms):
        waiting = {
            f"crops per second, {threads} threads": _crops_per_second(
                shards, 2 * threads, crop_frames, warm_up=threads, read_threads=threads
            )
            for threads in (4, 16, 64, 128)
        }
    note("reading", {"crop_frames": crop_frames, **found, f"every read {latency_ms:g} ms later": waiting})


def _crops_per_second(shards: FbankShards, batches: int, crop_frames: int, *, warm_up: int = 20, **options: Any) -> int:
    data = DataConfig(batch_size=READING_BATCH, crop_frames=crop_frames, **options)
    iterator = train_batches(shards, data, seed=0, first_step=0)
    for _ in range(warm_up):
        next(iterator)
    seconds = _time_once(lambda: [next(iterator) for _ in range(batches)])
    iterator.close()
    return round(READING_BATCH * batches / seconds)


def _slow_reads(milliseconds: float) -> contextlib.AbstractContextManager[Any]:
    read = FbankShards._segment

    def slow(self: FbankShards, index: int, segment: int) -> np.ndarray:
        time.sleep(milliseconds / 1000)
        return read(self, index, segment)

    return mock.patch.object(FbankShards, "_segment", slow)


# ---- memory


@main.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--utterances", default=100_000, help="Number of tiny recordings.")
@click.option("--num-workers", default=2, help="Number of worker processes.")
def memory(work: Path, utterances: int, num_workers: int) -> None:
    """Measure memory of the main process and its workers during the preparation of many utterances."""
    recordings = [
        Recording(f"id{number // 100:05d}/{number:07d}.wav", f"id{number // 100:05d}", partial(_tiny, number))
        for number in range(utterances)
    ]
    samples: list[tuple[float, int, int]] = []
    done = threading.Event()
    started = time.monotonic()
    watcher = threading.Thread(target=_watch_memory, args=(samples, done, started))
    watcher.start()
    shutil.rmtree(work / "many", ignore_errors=True)
    options: dict[str, Any] = {
        "spec": SPEC,
        "provenance": {},
        "max_rejected": 0,
        "progress": True,
        "shard_megabytes": 16,
    }
    build_shards(recordings, work / "many", num_workers=num_workers, **options)
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    quarters = [samples[min(len(samples) - 1, len(samples) * quarter // 4)] for quarter in range(1, 5)]
    note(
        "memory",
        {
            "utterances": utterances,
            "seconds": round(seconds),
            "MB of the main process at each quarter": [round(own / 1e6) for _, own, _ in quarters],
            "MB of the largest worker at each quarter": [round(worker / 1e6) for _, _, worker in quarters],
            "most MB of the main process": round(max(own for _, own, _ in samples) / 1e6),
            "most MB of a worker": round(max(worker for _, _, worker in samples) / 1e6),
        },
    )


def _tiny(number: int, sample_rate_hz: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return (0.1 * rng.standard_normal(sample_rate_hz // 4 + int(rng.integers(sample_rate_hz // 4)))).astype(np.float32)


def _watch_memory(samples: list[tuple[float, int, int]], done: threading.Event, started: float) -> None:
    own = os.getpid()
    while not done.wait(1.0):
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        workers = [_resident(int(child)) for child in children]
        samples.append((time.monotonic() - started, _resident(own), max(workers, default=0)))


def _resident(pid: int) -> int:
    """Returns the bytes of memory that a process holds."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # it has just ended
        return 0


if __name__ == "__main__":
    main()
