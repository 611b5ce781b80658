"""VoxCeleb in one command: from the archives of their owners to the error rates on VoxCeleb1 O, E and H.

    python launch/voxceleb.py --archives DOWNLOADS --work WORK --recipe voxceleb_resnet34_mqmha --dry-run
    python launch/voxceleb.py --archives DOWNLOADS --work WORK --recipe voxceleb_resnet34_mqmha

The stages: unpack, manifests, lists, noises, train-shards, eval-shards, calibration, base, base-average, fine-tuning,
average, base-scores, scores, table. Each is done once for its inputs, in a folder WORK/STAGE-KEY of its own.
The same command resumes after any interruption. Nothing is downloaded. DOWNLOADS holds, as their owners give them:

    vox2_dev_aac_parta*  (or vox2_dev_aac.zip, or an unpacked folder vox2)      https://www.robots.ox.ac.uk/~vgg/data/voxceleb
    vox1_dev_wav_parta*, vox1_test_wav.zip   (or an unpacked folder vox1)      the same
    veri_test2.txt, list_test_all2.txt, list_test_hard2.txt                    the same; the cleaned lists O, E, H
    vox1_meta.csv, vox2_meta.csv                                               the same; may be missing
    musan.tar.gz (or a folder musan)                                           https://www.openslr.org/17
    rirs_noises.zip (or a folder RIRS_NOISES)                                  https://www.openslr.org/28

On a cluster, --train-with and --prepare-with name what starts a training and a preparation (docs/recipes.md).
"""

import argparse
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import voxceleb_costs as costs
from stages import Checksums, Stage, run_stages
from voxceleb_sources import Sources
from voxceleb_table import LISTS, format_table, write_table

from mqmha_jax.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
SPEEDS = (1.0, 0.9, 1.1)
OFFLINE_VERSIONS = ("clean", "reverb", "noise", "music", "babble")
AVERAGED = {"base": 10, "tuned": 3}
"""Number of checkpoints whose mean is each network."""

CALIBRATION_SPEAKERS, CALIBRATION_UTTERANCES = 500, 20
"""Training speakers, evenly spaced, and utterances of each, whose trials calibrate the scores."""


class Recipe:
    """The stages of one recipe."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Reads the configurations and finds the sources."""
        from mqmha_jax.config_io import load_config, to_dict

        self.options = options
        self.work: Path = options.work
        self.recipe, self.tuning = options.recipe, _second_stage(options.recipe)
        self.base = load_config(self.recipe, options.base)
        self.tuned = load_config(self.tuning, options.fine_tuning)
        self.fbank = to_dict(self.base)["fbank"]
        self.sources = Sources(options.archives)
        self.devices = costs.Devices.parse(options.devices)
        self.sums = Checksums(self.work / "checksums.json")
        self.offline = options.augment == "offline"

    @cached_property
    def stages(self) -> list[Stage]:
        """All of them, in order."""
        make = partial(Stage, root=self.work)
        sources = self.sources
        unpack = make(
            name="unpack",
            inputs={path.name: self.sums.of(path) for path in self._unpacked_from()},
            work=self._unpack,
            cost=lambda: costs.unpacking(sum(size for parts in sources.archives().values() for size in _sizes(parts))),
            shown=lambda folder: [f"unpack {', '.join(path.name for path in self._unpacked_from())}"],
        )
        manifests = make(
            name="manifests",
            inputs={
                path.name: self.sums.of(path)
                for path in (*sources.metadata.values(), *(parts[0] for parts in (sources.vox1[0], sources.vox2)))
                if path.is_dir() or (path.suffix == ".csv" and path.is_file())
            },
            settings={"calibration": [CALIBRATION_SPEAKERS, CALIBRATION_UTTERANCES]},
            after=[unpack],
            work=partial(self._list, unpack),
            shown=lambda folder: ["mqmha prep manifest voxceleb2 ... --split dev; mqmha prep manifest voxceleb1 ..."],
        )
        lists = make(
            name="lists",
            inputs={name: self.sums.of(path) for name, path in sources.lists.items()},
            work=self._import_lists,
            shown=lambda folder: map(_show, self._list_commands(folder)),
        )
        noises = make(
            name="noises",
            inputs={"musan": self.sums.of(sources.musan), "rirs": self.sums.of(sources.rirs)},
            settings={"fbank": self.fbank},
            after=[unpack],
            work=partial(self._prepare_noises, unpack),
            cost=lambda: costs.preparing(109 * 3600, self.base.fbank, copies=1),  # MUSAN has 109 hours
            shown=lambda folder: map(_show, self._noise_commands(unpack, folder)),
        )
        train_shards = make(
            name="train-shards",
            settings={"fbank": self.fbank, "speeds": SPEEDS, "versions": self._versions()},
            after=[manifests, noises] if self.offline else [manifests],
            work=partial(self._prepare, manifests, "vox2", lambda: self._version_options(unpack), "train"),
            cost=lambda: costs.preparing(
                costs.audio_seconds(costs.list_source(sources.vox2)),
                self.base.fbank,
                copies=len(SPEEDS) * len(self._versions()),
            ),
            shown=lambda folder: [_show(self._shard_command(manifests, "vox2", folder, self._version_options(unpack)))],
        )
        eval_shards = make(
            name="eval-shards",
            settings={"fbank": self.fbank},
            after=[manifests],
            work=partial(self._prepare, manifests, "vox1", lambda: [], "eval"),
            cost=lambda: costs.preparing(self._eval_seconds(), self.base.fbank, copies=1),
            shown=lambda folder: [_show(self._shard_command(manifests, "vox1", folder, []))],
        )
        calibration = make(
            name="calibration",
            settings={"fbank": self.fbank},
            after=[manifests],
            work=partial(self._prepare_calibration, manifests),
            cost=lambda: costs.preparing(
                CALIBRATION_SPEAKERS * CALIBRATION_UTTERANCES * costs.SECONDS_PER_UTTERANCE, self.base.fbank, copies=1
            ),
            shown=lambda folder: map(_show, self._calibration_commands(manifests, folder)),
        )
        data = [train_shards, eval_shards, lists, *([] if self.offline else [noises])]
        base = make(
            name="base",
            settings=_identity(self.base),
            after=data,
            work=lambda folder: self._train(self.base, self._base_words(data, folder), folder),
            cost=lambda: costs.training(self.base, self.devices),
            shown=lambda folder: [_show(self._train_command(self._base_words(data, folder)))],
        )
        base_average = self._average("base-average", base, self.base, AVERAGED["base"])
        tuning = make(
            name="fine-tuning",
            settings=_identity(self.tuned),
            after=[base_average, *data],
            work=lambda folder: self._train(self.tuned, self._tuning_words(base_average, data, folder), folder),
            cost=lambda: costs.training(self.tuned, self.devices),
            shown=lambda folder: [_show(self._train_command(self._tuning_words(base_average, data, folder)))],
        )
        average = self._average("average", tuning, self.tuned, AVERAGED["tuned"])
        scored = [train_shards, eval_shards, lists, calibration]
        base_scores = self._evaluate("base-scores", base_average, scored)
        scores = self._evaluate("scores", average, scored)
        before = [unpack, manifests, lists, noises, train_shards, eval_shards, calibration]
        after = [base, base_average, tuning, average, base_scores, scores]
        table = make(
            name="table",
            settings={"recipe": Path(self.recipe).stem},
            after=[*before, *after],
            work=partial(self._write_table, base_scores, scores, [*before, *after]),
            shown=lambda folder: [f"write {folder / 'table.md'} and table.json"],
        )
        return [*before, *after, table]

    # ---- data

    def _unpacked_from(self) -> list[Path]:
        archives = [part for parts in self.sources.archives().values() for part in parts]
        return [*archives, *([] if self.sources.musan.is_dir() else [self.sources.musan])]

    def _unpack(self, folder: Path) -> Mapping[str, Any]:
        from tqdm import tqdm

        from data_prep.archives import extract
        from data_prep.zip_parts import list_zip, unpack_zip

        numbers = {}
        for name, parts in self.sources.archives().items():
            with tqdm(total=len(list_zip(parts)), desc=name, unit="file", disable=not sys.stderr.isatty()) as bar:
                numbers[name] = unpack_zip(parts, folder / name, progress=lambda member, bar=bar: bar.update())
        if not self.sources.musan.is_dir():
            extract(self.sources.musan, folder / "musan")
        sums = {path.name: self.sums.of(path) for path in self._unpacked_from()}
        return {"files": numbers, "sha256": sums}

    def _corpus(self, unpack: Stage, name: str) -> Path:
        """Where a corpus, ``musan`` or ``rirs`` lies."""
        given = {"vox1": self.sources.vox1[0][0], "vox2": self.sources.vox2[0], "musan": self.sources.musan}
        path = given.get(name, self.sources.rirs)
        return path if path.is_dir() else unpack.folder / name

    def _list(self, unpack: Stage, folder: Path) -> Mapping[str, Any]:
        from data_prep.corpora.jsonl_list import write_jsonl
        from data_prep.corpora.voxceleb import voxceleb1_recordings, voxceleb2_recordings

        metadata = {name: path if path.is_file() else None for name, path in self.sources.metadata.items()}
        train = voxceleb2_recordings(self._corpus(unpack, "vox2"), split="dev", metadata=metadata["vox2"])
        test = voxceleb1_recordings(self._corpus(unpack, "vox1"), metadata=metadata["vox1"])
        listed = {"vox2": train, "vox1": test, "calibration": _choose_calibration(train)}
        roots = {name: str(write_jsonl(recordings, folder / f"{name}.jsonl")) for name, recordings in listed.items()}
        (folder / "roots.json").write_text(json.dumps(roots))
        return {
            name: {"recordings": len(recordings), "speakers": len({recording.speaker for recording in recordings})}
            for name, recordings in listed.items()
        }

    def _list_commands(self, folder: Path) -> list[list[str]]:
        return [
            [*MQMHA, "import-trials", "voxceleb", str(path), str(folder / f"{name}.txt")]
            for name, path in self.sources.lists.items()
        ]

    def _import_lists(self, folder: Path) -> Mapping[str, Any]:
        for command in self._list_commands(folder):
            _run(command)
        return {"sha256": {name: self.sums.of(folder / f"{name}.txt") for name in LISTS}}

    def _noise_commands(self, unpack: Stage, folder: Path) -> list[list[str]]:
        like = ["--like", self.recipe, "--no-progress"]
        musan, rirs = (str(self._corpus(unpack, name)) for name in ("musan", "rirs"))
        return [
            [*MQMHA, "prep", "noises", musan, str(folder / "shards"), *like],
            [*MQMHA, "prep", "room-table", rirs, str(folder / "rooms.npz"), *like],
        ]

    def _prepare_noises(self, unpack: Stage, folder: Path) -> Mapping[str, Any]:
        for command in self._noise_commands(unpack, folder):
            _run(command)
        return {"fingerprint": _fingerprint(folder / "shards"), "rooms_sha256": self.sums.of(folder / "rooms.npz")}

    def _versions(self) -> tuple[str, ...]:
        return OFFLINE_VERSIONS if self.offline else ("clean",)

    def _version_options(self, unpack: Stage) -> list[str]:
        speeds = ["--speeds", ",".join(map(str, SPEEDS)), "--versions", ",".join(self._versions())]
        if not self.offline:
            return speeds
        musan, rirs = (str(self._corpus(unpack, name)) for name in ("musan", "rirs"))
        return [*speeds, "--noise", musan, "--room-responses", rirs]

    def _shard_command(self, manifests: Stage, name: str, folder: Path, options: Sequence[str]) -> list[str]:
        path = manifests.folder / "roots.json"
        root = json.loads(path.read_text())[name] if path.is_file() else "ROOT"
        prepare = shlex.split(self.options.prepare_with) if self.options.prepare_with else [*MQMHA, "prep"]
        progress = [] if self.options.prepare_with or sys.stderr.isatty() else ["--no-progress"]
        manifest = str(manifests.folder / f"{name}.jsonl")
        words = ["jsonl", manifest, str(folder / "shards"), "--root", root, "--like", self.recipe]
        return [*prepare, *words, *options, *progress]

    def _prepare(
        self, manifests: Stage, name: str, options: Callable[[], Sequence[str]], what: str, folder: Path
    ) -> Mapping[str, Any]:
        _run(self._shard_command(manifests, name, folder, options()))
        if not (folder / "shards" / "shards.json").is_file():
            raise UserError(f"The shards in {folder} are not complete: run the same command again when {what} ends.")
        return {"fingerprint": _fingerprint(folder / "shards")}

    def _calibration_commands(self, manifests: Stage, folder: Path) -> list[list[str]]:
        trials = [*MQMHA, "make-trials", str(folder / "shards"), str(folder / "calibration.trials")]
        return [self._shard_command(manifests, "calibration", folder, []), trials]

    def _prepare_calibration(self, manifests: Stage, folder: Path) -> Mapping[str, Any]:
        for command in self._calibration_commands(manifests, folder):
            _run(command)
        sums = {"sha256": self.sums.of(folder / "calibration.trials")}
        return {"fingerprint": _fingerprint(folder / "shards"), **sums}

    def _eval_seconds(self) -> float:
        return sum(costs.audio_seconds(costs.list_source(parts)) for parts in dict.fromkeys(self.sources.vox1))

    # ---- training

    def _data_words(self, data: Sequence[Stage]) -> list[str]:
        train, dev, lists = data[:3]
        words = [f"data.train={train.folder / 'shards'}", f"data.dev={dev.folder / 'shards'}"]
        words.append(f"data.dev_trials={lists.folder / 'O.txt'}")
        if not self.offline:
            noises = data[3].folder
            words += [f"augment.noise={noises / 'shards'}", f"augment.rooms={noises / 'rooms.npz'}"]
        return words

    def _base_words(self, data: Sequence[Stage], folder: Path) -> list[str]:
        return [self.recipe, "--workdir", str(folder / "run"), *self._data_words(data), *self.options.base]

    def _tuning_words(self, base_average: Stage, data: Sequence[Stage], folder: Path) -> list[str]:
        words = [self.tuning, "--workdir", str(folder / "run"), f"start.run={base_average.folder / 'run'}"]
        return [*words, *self._data_words(data), *self.options.fine_tuning]

    def _train_command(self, words: Sequence[str]) -> list[str]:
        if self.options.train_with:
            return [*shlex.split(self.options.train_with), *words]
        return [*MQMHA, "train", *words, *([] if sys.stderr.isatty() else ["--quiet"])]

    def _train(self, config: Any, words: Sequence[str], folder: Path) -> Mapping[str, Any]:
        _run(self._train_command(words))
        if not (folder / "run" / "checkpoints" / str(config.train.steps)).is_dir():
            raise UserError(
                f"The training in {folder / 'run'} has not reached step {config.train.steps}. If it runs elsewhere, "
                "wait for it; then run the same command again."
            )
        data = json.loads((folder / "run" / "data.json").read_text())
        return {"steps": config.train.steps, "speakers": data["num_speakers"], "data": data["fingerprint"]}

    def _average(self, name: str, run: Stage, config: Any, number: int) -> Stage:
        number = min(number, config.train.keep_checkpoints, -(-config.train.steps // config.train.checkpoint_every))

        def command(folder: Path) -> list[str]:
            words = ["average", str(run.folder / "run"), "--last", str(number), "--output", str(folder / "run")]
            return [*MQMHA, *words]

        def work(folder: Path) -> Mapping[str, Any]:
            if not (folder / "run").exists():  # it appears when it is complete
                _run(command(folder))
            return {"checkpoints": number}

        shown = lambda folder: [_show(command(folder))]  # noqa: E731
        return Stage(name=name, root=self.work, settings={"last": number}, after=[run], work=work, shown=shown)

    # ---- scores

    def _evaluate(self, name: str, average: Stage, scored: Sequence[Stage]) -> Stage:
        train, dev, lists, calibration = scored

        def command(folder: Path) -> list[str]:
            trials = [word for one in LISTS for word in ("--trials", str(lists.folder / f"{one}.txt"))]
            calibrate = ["--calibrate", str(calibration.folder / "calibration.trials")]
            calibrate += ["--calibrate-data", str(calibration.folder / "shards"), "--quality"]
            run = [str(average.folder / "run"), "--data", str(dev.folder / "shards"), *trials]
            norm = ["--as-norm", str(train.folder / "shards"), *calibrate]
            return [*MQMHA, "evaluate", *run, *norm, "--output", str(folder / "evaluation")]

        def work(folder: Path) -> Mapping[str, Any]:
            _run(command(folder))
            return {"sha256": self.sums.of(folder / "evaluation" / "metrics.json")}

        return Stage(
            name=name,
            root=self.work,
            after=[average, *scored],
            work=work,
            cost=lambda: costs.embedding(self.base, self._eval_seconds(), self.devices),
            shown=lambda folder: [_show(command(folder))],
        )

    def _write_table(self, base: Stage, tuned: Stage, stages: Sequence[Stage], folder: Path) -> Mapping[str, Any]:
        records = {stage.name: stage.record() for stage in stages}
        table = write_table(
            folder,
            recipe=Path(self.recipe).stem,
            evaluations={"base": base.folder / "evaluation", "fine-tuned": tuned.folder / "evaluation"},
            facts={name: record["facts"] for name, record in records.items() if "scores" not in name},
            machine=_machine(),
            seconds={
                name: {"seconds": record["seconds"], "attempts": record["attempts"]} for name, record in records.items()
            },
        )
        print(format_table(table))
        return {}


MQMHA = (sys.executable, "-m", "mqmha_jax")
_ENVIRONMENT = dict(os.environ)
os.environ["JAX_PLATFORMS"] = "cpu"  # this process only counts; its commands use the devices
_child: subprocess.Popen[bytes] | None = None


def _run(command: Sequence[str]) -> None:
    """Runs a command; a signal to this program reaches it too, so that it saves what it has.

    Raises:
      UserError: it ends with another status than 0.
    """
    global _child
    print(f"   $ {_show(command)}", flush=True)
    _child = subprocess.Popen(command, env=_ENVIRONMENT)
    try:
        status = _child.wait()
    except KeyboardInterrupt:  # the terminal sent it to the command as well
        _child.wait()
        raise
    finally:
        _child = None
    if status:
        raise UserError(
            f"This command ended with status {status}; its own message stands above. What it finished stays: run the "
            "same command again to resume."
        )


def _pass_on(number: int, frame: Any) -> None:
    if _child is not None:
        _child.send_signal(number)
        _child.wait()
    sys.exit(128 + number)


def _show(command: Sequence[str]) -> str:
    """The command as people type it."""
    words = ("mqmha", *command[len(MQMHA) :]) if tuple(command[: len(MQMHA)]) == MQMHA else command
    return shlex.join(words)


def _second_stage(recipe: str) -> str:
    """The configuration of the fine-tuning: the name or the file with ``_lm`` appended."""
    return f"{recipe.removesuffix('.py')}_lm.py" if recipe.endswith(".py") else f"{recipe}_lm"


def _identity(config: Any) -> Mapping[str, Any]:
    """What decides the numbers of a run; where its data lie is decided by the stages before it."""
    from mqmha_jax.config_io import to_dict

    values = to_dict(config)
    for name in ("train", "dev", "dev_trials", "num_workers", "read_threads"):
        values["data"].pop(name)
    values["augment"] = {name: value for name, value in values["augment"].items() if name not in ("noise", "rooms")}
    values["start"].pop("run")
    values.pop("mesh")
    return values


def _choose_calibration(recordings: Sequence[Any]) -> list[Any]:
    """Some utterances of evenly spaced speakers, evenly spaced too."""

    def spread(items: Sequence[Any], number: int) -> list[Any]:
        return [items[i * len(items) // number] for i in range(number)] if len(items) > number else list(items)

    of_speaker: dict[str, list[Any]] = {}
    for recording in recordings:
        of_speaker.setdefault(recording.speaker, []).append(recording)
    chosen = spread(sorted(of_speaker), CALIBRATION_SPEAKERS)
    return [recording for name in chosen for recording in spread(of_speaker[name], CALIBRATION_UTTERANCES)]


def _fingerprint(shards: Path) -> str:
    from mqmha_jax.data.shard_reader import open_shards

    return str(open_shards(shards).identity()["fingerprint"])


def _sizes(parts: Sequence[Path]) -> list[int]:
    return [size for _, size in costs.list_source(parts)]


def _machine() -> dict[str, Any]:
    import jax

    from mqmha_jax import __version__

    asked = "from mqmha_jax.parallel import describe_devices; print(describe_devices())"
    devices = subprocess.run([sys.executable, "-c", asked], env=_ENVIRONMENT, capture_output=True, text=True)
    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "devices": devices.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "mqmha_jax": __version__,
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--archives", type=Path, required=True, metavar="DOWNLOADS", help="folder of the archives and lists")
    add("--work", type=Path, required=True, help="folder of all stages")
    add("--recipe", default="voxceleb_resnet34_mqmha", help="configuration; its second stage is RECIPE_lm")
    add("--augment", choices=("device", "offline"), default="device", help="noise and rooms: in the step, or in shards")
    add("--until", metavar="STAGE", help="last stage to do")
    add("--dry-run", action="store_true", help="print every stage with its cost and its commands; do nothing")
    add("--devices", default="cpu", metavar="NxKIND", help="for the estimate: 8xH100, 16xv5e, cpu")
    add("--train-with", metavar="COMMAND", help="starts a training in place of 'mqmha train'")
    add("--prepare-with", metavar="COMMAND", help="starts the preparation of shards in place of 'mqmha prep'")
    add("--base", action="append", default=[], metavar="OPTION", help="section.option=value for the base training")
    add("--fine-tuning", action="append", default=[], metavar="OPTION", help="the same for the fine-tuning")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _pass_on)
    try:
        done = run_stages(
            Recipe(options).stages, until=options.until, dry_run=options.dry_run, say=partial(print, flush=True)
        )
    except UserError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped. Run the same command again to resume.")
    if not options.dry_run and done and options.until is None:
        print(f"The table is in {Recipe(options).stages[-1].folder}.")


if __name__ == "__main__":
    main()
