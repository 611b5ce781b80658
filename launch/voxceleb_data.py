"""The stages of launch/voxceleb.py from archives to shards."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import voxceleb_costs as costs
from stages import Checksums, Cost, Stage
from voxceleb_commands import MQMHA, run_command, show_command
from voxceleb_sources import Sources
from voxceleb_table import LISTS

from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError

SPEEDS = (1.0, 0.9, 1.1)
OFFLINE_VERSIONS = ("clean", "reverb", "noise", "music", "babble")
CALIBRATION_SPEAKERS = 500
"""Training speakers whose trials calibrate the scores, at most half of all; the others are the cohort of AS-norm."""

UTTERANCES = 20
"""Of each of both; the cohort uses no more of a speaker (evaluation/embeddings)."""


class DataStages:
    """Everything before the training.

    Attributes:
      all: the stages in order; each is also an attribute.
      checksums: of files.
      eval_seconds: length of VoxCeleb1, estimated when it is asked for.
    """

    def __init__(
        self, work: Path, sources: Sources, *, recipe: str, fbank: FbankSpec, offline: bool, prepare_with: str | None
    ) -> None:
        """Makes the stages; reads files only for their checksums.

        Args:
          work: folder of all stages.
          sources: what lies in the folder of downloads.
          recipe: configuration with the features.
          fbank: its features.
          offline: noise and rooms are in the shards, not added by the training step.
          prepare_with: command in place of ``mqmha prep``; None: that.
        """
        self._sources, self._recipe, self._fbank, self._prepare_with = sources, recipe, fbank, prepare_with
        self.checksums = checksums = Checksums(work / "checksums.json")
        self._versions = OFFLINE_VERSIONS if offline else ("clean",)
        self._eval_seconds: float | None = None
        make = partial(Stage, root=work)
        features = {"fbank": vars(fbank)}
        self.unpack = make(
            name="unpack",
            inputs={path.name: checksums.of(path) for path in sources.to_unpack()},
            work=self._unpack,
            cost=self._cost_of_unpacking,
            shown=lambda folder: [f"unpack {', '.join(path.name for path in sources.to_unpack())}"],
        )
        self.manifests = make(
            name="manifests",
            inputs={path.name: checksums.of(path) for path in sources.listed_in_place()},
            settings={"calibration": [CALIBRATION_SPEAKERS, UTTERANCES]},
            after=[self.unpack],
            work=self._list,
            shown=lambda folder: [f"list VoxCeleb2-dev and VoxCeleb1 in {folder}"],
        )
        # The trainings watch O, so a change of E or H must not redo them.
        self.dev_list = self._official_lists(make, "dev-list", LISTS[:1])
        self.lists = self._official_lists(make, "lists", LISTS[1:])
        self.noises = make(
            name="noises",
            inputs={"musan": checksums.of(sources.musan), "rirs": checksums.of(sources.rirs)},
            settings=features,
            after=[self.unpack],
            work=self._prepare_noises,
            cost=lambda: costs.preparing(costs.MUSAN_SECONDS, fbank, copies=1),
            shown=lambda folder: map(show_command, self._noise_commands(folder)),
        )
        shards = partial(self._shards, make, features)
        copies = len(SPEEDS) * len(self._versions)
        self.train = shards(
            "train-shards",
            "vox2",
            lambda: costs.preparing(costs.audio_seconds(costs.list_source(sources.vox2)), fbank, copies=copies),
            self._version_options,
            settings={**features, "speeds": SPEEDS, "versions": self._versions},
            after=[self.manifests, self.noises] if offline else [self.manifests],
        )
        self.eval = shards("eval-shards", "vox1", lambda: costs.preparing(self.eval_seconds, fbank, copies=1))
        self.cohort = shards("cohort", "cohort", lambda: self._cost_of_speakers(costs.SPEAKERS - CALIBRATION_SPEAKERS))
        self.calibration = make(
            name="calibration",
            settings=features,
            after=[self.manifests],
            work=self._prepare_calibration,
            cost=lambda: self._cost_of_speakers(CALIBRATION_SPEAKERS),
            shown=lambda folder: map(show_command, self._calibration_commands(folder)),
        )
        self.all = [self.unpack, self.manifests, self.dev_list, self.lists, self.noises]
        self.all += [self.train, self.eval, self.cohort, self.calibration]

    @property
    def eval_seconds(self) -> float:
        """Length of VoxCeleb1."""
        if self._eval_seconds is None:
            parts = dict.fromkeys(self._sources.vox1)
            self._eval_seconds = sum(costs.audio_seconds(costs.list_source(one)) for one in parts)
        return self._eval_seconds

    def _unpack(self, folder: Path) -> Mapping[str, Any]:
        from tqdm import tqdm

        from data_prep.archives import extract
        from data_prep.zip_parts import list_zip, unpack_zip

        numbers = {}
        for name, parts in self._sources.archives().items():
            with tqdm(total=len(list_zip(parts)), desc=name, unit="file", disable=not sys.stderr.isatty()) as bar:
                numbers[name] = unpack_zip(parts, folder / name, progress=lambda member, bar=bar: bar.update())
        if not self._sources.musan.is_dir():
            extract(self._sources.musan, folder / "musan")
        return {"files": numbers, "sha256": dict(self.unpack.inputs)}

    def _cost_of_unpacking(self) -> Cost:
        parts = [*self._sources.archives().values()]
        return costs.unpacking(sum(size for one in parts for _, size in costs.list_source(one)))

    def _corpus(self, name: str) -> Path:
        """Where a corpus, ``musan`` or ``rirs`` lies."""
        path = self._sources.folder_of(name)
        return self.unpack.folder / name if path is None else path

    def _list(self, folder: Path) -> Mapping[str, Any]:
        from data_prep.corpora.jsonl_list import write_jsonl
        from data_prep.corpora.voxceleb import voxceleb1_recordings, voxceleb2_recordings

        tables = {name: path if path.is_file() else None for name, path in self._sources.metadata.items()}
        train = voxceleb2_recordings(self._corpus("vox2"), split="dev", metadata=tables["vox2"])
        listed = {"vox2": train, "vox1": voxceleb1_recordings(self._corpus("vox1"), metadata=tables["vox1"])}
        listed["calibration"], listed["cohort"] = _split_speakers(train)
        roots = {name: str(write_jsonl(recordings, folder / f"{name}.jsonl")) for name, recordings in listed.items()}
        (folder / "roots.json").write_text(json.dumps(roots))
        return {
            name: {"recordings": len(recordings), "speakers": len({recording.speaker for recording in recordings})}
            for name, recordings in listed.items()
        }

    def _official_lists(self, make: Callable[..., Stage], name: str, lists: Sequence[str]) -> Stage:
        """A stage that checks official lists and writes them with our ids."""

        def commands(folder: Path) -> list[list[str]]:
            files = [(str(self._sources.lists[one]), str(folder / f"{one}.txt")) for one in lists]
            return [[*MQMHA, "import-trials", "voxceleb", *paths] for paths in files]

        def work(folder: Path) -> Mapping[str, Any]:
            for command in commands(folder):
                run_command(command)
            return {"sha256": {one: self.checksums.of(folder / f"{one}.txt") for one in lists}}

        return make(
            name=name,
            inputs={one: self.checksums.of(self._sources.lists[one]) for one in lists},
            work=work,
            shown=lambda folder: map(show_command, commands(folder)),
        )

    def list_path(self, name: str) -> Path:
        """Where the list ``O``, ``E`` or ``H`` is when its stage is done."""
        stage = self.dev_list if name == LISTS[0] else self.lists
        return stage.folder / f"{name}.txt"

    def _noise_commands(self, folder: Path) -> list[list[str]]:
        like = ["--like", self._recipe, "--no-progress"]
        return [
            [*MQMHA, "prep", "noises", str(self._corpus("musan")), str(folder / "shards"), *like],
            [*MQMHA, "prep", "room-table", str(self._corpus("rirs")), str(folder / "rooms.npz"), *like],
        ]

    def _prepare_noises(self, folder: Path) -> Mapping[str, Any]:
        for command in self._noise_commands(folder):
            run_command(command)
        return {"fingerprint": _fingerprint(folder), "rooms_sha256": self.checksums.of(folder / "rooms.npz")}

    def _version_options(self) -> list[str]:
        options = ["--speeds", ",".join(map(str, SPEEDS)), "--versions", ",".join(self._versions)]
        if self._versions == ("clean",):
            return options
        return [*options, "--noise", str(self._corpus("musan")), "--room-responses", str(self._corpus("rirs"))]

    def _shards(
        self,
        make: Callable[..., Stage],
        features: Mapping[str, Any],
        name: str,
        manifest: str,
        cost: Callable[[], Cost],
        options: Callable[[], Sequence[str]] = tuple,
        **changes: Any,
    ) -> Stage:
        """A stage that makes shards of a manifest."""

        def work(folder: Path) -> Mapping[str, Any]:
            run_command(self._shard_command(manifest, folder, options()))
            return {"fingerprint": _fingerprint(folder)}

        def shown(folder: Path) -> list[str]:
            return [show_command(self._shard_command(manifest, folder, options()))]

        rest = {"settings": features, "after": [self.manifests]} | changes
        return make(name=name, work=work, cost=cost, shown=shown, **rest)

    def _shard_command(self, manifest: str, folder: Path, options: Sequence[str]) -> list[str]:
        path = self.manifests.folder / "roots.json"
        root = json.loads(path.read_text())[manifest] if path.is_file() else "ROOT"
        prepare = shlex.split(self._prepare_with) if self._prepare_with else [*MQMHA, "prep"]
        progress = [] if self._prepare_with or sys.stderr.isatty() else ["--no-progress"]
        words = ["jsonl", str(self.manifests.folder / f"{manifest}.jsonl"), str(folder / "shards"), "--root", root]
        return [*prepare, *words, "--like", self._recipe, *options, *progress]

    def _calibration_commands(self, folder: Path) -> list[list[str]]:
        trials = [*MQMHA, "make-trials", str(folder / "shards"), str(folder / "calibration.trials")]
        return [self._shard_command("calibration", folder, ()), trials]

    def _prepare_calibration(self, folder: Path) -> Mapping[str, Any]:
        for command in self._calibration_commands(folder):
            run_command(command)
        return {"fingerprint": _fingerprint(folder), "sha256": self.checksums.of(folder / "calibration.trials")}

    def _cost_of_speakers(self, number: int) -> Cost:
        return costs.preparing(number * UTTERANCES * costs.SECONDS_PER_UTTERANCE, self._fbank, copies=1)


def _split_speakers(recordings: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Some utterances of the calibration speakers, who are evenly spaced, and of all others."""
    of_speaker: dict[str, list[Any]] = {}
    for recording in recordings:
        of_speaker.setdefault(recording.speaker, []).append(recording)
    names = sorted(of_speaker)
    chosen = set(_spread(names, min(CALIBRATION_SPEAKERS, len(names) // 2)))
    some = {name: _spread(own, UTTERANCES) for name, own in of_speaker.items()}
    calibration, cohort = (
        [r for name in names if (name in chosen) == here for r in some[name]] for here in (True, False)
    )
    return calibration, cohort


def _spread(items: Sequence[Any], number: int) -> list[Any]:
    """Returns evenly spaced items, ``number`` of them or all if there are fewer."""
    return [items[i * len(items) // number] for i in range(number)] if len(items) > number else list(items)


def _fingerprint(folder: Path) -> str:
    from mqmha_jax.data.shard_reader import open_shards

    if not (folder / "shards" / "shards.json").is_file():
        raise UserError(
            f"The shards in {folder} are not complete. If they are made elsewhere, wait for it; then run the same "
            "command again."
        )
    return str(open_shards(folder / "shards").identity()["fingerprint"])
