"""VoxCeleb in one command: from the archives of their owners to the error rates on VoxCeleb1 O, E and H.

    python launch/voxceleb.py --archives DOWNLOADS --work WORK --recipe voxceleb_resnet34_mqmha --dry-run
    python launch/voxceleb.py --archives DOWNLOADS --work WORK --recipe voxceleb_resnet34_mqmha

The stages: unpack, manifests, dev-list, lists, noises, train-shards, eval-shards, cohort, calibration, base,
base-average, fine-tuning, average, base-scores, scores, table. Each is done once for its inputs, in its own folder
WORK/STAGE-KEY. The same command resumes after any interruption. Nothing is downloaded. DOWNLOADS holds, as their owners
give them:

    vox2_dev_aac_parta*  (or vox2_dev_aac.zip, or an unpacked folder vox2)      https://www.robots.ox.ac.uk/~vgg/data/voxceleb
    vox1_dev_wav_parta*, vox1_test_wav.zip   (or an unpacked folder vox1)      the same
    veri_test2.txt, list_test_all2.txt, list_test_hard2.txt                    the same; the cleaned lists O, E, H
    vox1_meta.csv, vox2_meta.csv                                               the same; may be missing
    musan.tar.gz (or a folder musan)                                           https://www.openslr.org/17
    rirs_noises.zip (or a folder RIRS_NOISES)                                  https://www.openslr.org/28

On a cluster, --train-with and --prepare-with name what starts a training and a preparation (docs/recipes.md).
"""

import argparse
import dataclasses
import json
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import voxceleb_costs as costs
from stages import Stage, run_stages
from voxceleb_commands import MQMHA, describe_machine, pass_on, run_command, show_command
from voxceleb_data import DataStages
from voxceleb_sources import Sources
from voxceleb_table import LISTS, format_table, write_table

from mqmha_jax.atomic import write_text
from mqmha_jax.config import Config, LossConfig, ModelConfig
from mqmha_jax.config_io import differences, load_config, to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.own_code.contents import hash_code

AVERAGED = {"base": 10, "fine-tuned": 3}
"""Number of checkpoints whose mean is each network, at most."""

_GIVEN = ("data.train", "data.dev", "data.dev_trials", "augment.noise", "augment.rooms")
"""Options that the stages give to both trainings."""

SUBMITTED = "submitted.txt"
"""In the folder of a training: when a command started it elsewhere and returned, and which."""


def make_stages(options: argparse.Namespace) -> list[Stage]:
    """The stages of a recipe, in order.

    Args:
      options: of the command line.

    Raises:
      UserError: a configuration, an option or a source is missing or not valid.
    """
    configs = {
        "base": load_config(options.recipe, options.base),
        "fine-tuned": load_config(second_stage(options.recipe), options.fine_tuning),
    }
    refuse_given("--base", options.base, _GIVEN)
    refuse_given("--fine-tuning", options.fine_tuning, (*_GIVEN, "start.run"))
    refuse_other_network(configs["base"], configs["fine-tuned"])
    devices = costs.Devices.parse(options.devices)
    data = DataStages(
        options.work,
        Sources(options.archives),
        recipe=options.recipe,
        fbank=configs["base"].fbank,
        offline=options.augment == "offline",
        prepare_with=options.prepare_with,
    )
    make = Maker(options, data, configs, devices)
    base = make.training("base", "base", options.recipe, options.base)
    base_average = make.average("base-average", "base", base)
    recipe = second_stage(options.recipe)
    tuning = make.training("fine-tuning", "fine-tuned", recipe, options.fine_tuning, start=base_average)
    average = make.average("average", "fine-tuned", tuning)
    scores = {
        "base": make.evaluation("base-scores", "base", base_average),
        "fine-tuned": make.evaluation("scores", "fine-tuned", average),
    }
    stages = [*data.all, base, base_average, tuning, average, *scores.values()]
    return [*stages, make.table(stages, scores)]


class Maker:
    """Makes the stages of training, scores and table."""

    def __init__(
        self,
        options: argparse.Namespace,
        data: DataStages,
        configs: Mapping[str, Config],
        devices: costs.Devices,
    ) -> None:
        """Keeps what all stages need."""
        self._options, self._data, self._configs, self._devices = options, data, configs, devices
        self._make = partial(Stage, root=options.work)

    def training(
        self, name: str, network: str, recipe: str, overrides: Sequence[str], *, start: Stage | None = None
    ) -> Stage:
        """Trains a configuration, from the beginning or from an average."""
        data, config = self._data, self._configs[network]
        used = [data.train, data.eval, data.dev_list, *([data.noises] if self._options.augment == "device" else [])]

        def command(folder: Path) -> list[str]:
            words = [recipe, "--workdir", str(folder / "run"), f"data.train={data.train.folder / 'shards'}"]
            words += [f"data.dev={data.eval.folder / 'shards'}", f"data.dev_trials={data.list_path('O')}"]
            if data.noises in used:
                noises = data.noises.folder
                words += [f"augment.noise={noises / 'shards'}", f"augment.rooms={noises / 'rooms.npz'}"]
            words += [] if start is None else [f"start.run={start.folder / 'run'}"]
            if self._options.train_with:
                return [*shlex.split(self._options.train_with), *words, *overrides]
            return [*MQMHA, "train", *words, *overrides, *([] if sys.stderr.isatty() else ["--quiet"])]

        def work(folder: Path) -> Mapping[str, Any]:
            steps = config.train.steps
            last = folder / "run" / "checkpoints" / str(steps)
            if not last.is_dir():
                refuse_second(folder)
            if not (self._options.train_with and last.is_dir()):  # what runs elsewhere may have ended meanwhile
                run_command(command(folder))
            if not last.is_dir():
                if self._options.train_with:  # a command that returns without an error may have submitted a job
                    now = time.strftime("%Y-%m-%d %H:%M:%S")
                    write_text(folder / SUBMITTED, f"{now}: {show_command(command(folder))}")
                raise UserError(
                    f"The training in {folder / 'run'} has not reached step {steps}. If it runs elsewhere, wait for "
                    "it; then run the same command again."
                )
            known = json.loads((folder / "run" / "data.json").read_text())
            return {"steps": steps, "speakers": known["num_speakers"], "data": known["fingerprint"]}

        return self._make(
            name=name,
            settings=_identity(config, own_start=start is None),
            after=used if start is None else [start, *used],
            work=work,
            cost=lambda: costs.training(config, self._devices),
            shown=lambda folder: [show_command(command(folder))],
        )

    def average(self, name: str, network: str, run: Stage) -> Stage:
        """Averages the last checkpoints of a training."""
        train = self._configs[network].train
        number = min(AVERAGED[network], train.keep_checkpoints, -(-train.steps // train.checkpoint_every))

        def command(folder: Path) -> list[str]:
            words = ["average", str(run.folder / "run"), "--last", str(number), "--output", str(folder / "run")]
            return [*MQMHA, *words]

        def work(folder: Path) -> Mapping[str, Any]:
            if not (folder / "run").exists():  # it appears when it is complete
                run_command(command(folder))
            return {"checkpoints": number}

        return self._make(
            name=name,
            settings={"last": number},
            after=[run],
            work=work,
            shown=lambda folder: [show_command(command(folder))],
        )

    def evaluation(self, name: str, network: str, average: Stage) -> Stage:
        """Scores the lists: cosine and AS-norm, each also calibrated with quality measures."""
        data = self._data

        def command(folder: Path) -> list[str]:
            words = ["evaluate", str(average.folder / "run"), "--data", str(data.eval.folder / "shards")]
            words += [word for one in LISTS for word in ("--trials", str(data.list_path(one)))]
            words += ["--as-norm", str(data.cohort.folder / "shards")]
            words += ["--calibrate", str(data.calibration.folder / "calibration.trials")]
            words += ["--calibrate-data", str(data.calibration.folder / "shards"), "--quality"]
            return [*MQMHA, *words, "--output", str(folder / "evaluation")]

        def work(folder: Path) -> Mapping[str, Any]:
            run_command(command(folder))
            return {"sha256": data.checksums.of(folder / "evaluation" / "metrics.json")}

        return self._make(
            name=name,
            after=[average, data.eval, data.dev_list, data.lists, data.cohort, data.calibration],
            work=work,
            cost=lambda: costs.embedding(self._configs[network], data.eval_seconds, self._devices),
            shown=lambda folder: [show_command(command(folder))],
        )

    def table(self, stages: Sequence[Stage], scores: Mapping[str, Stage]) -> Stage:
        """Collects the scores of all networks and the records of all stages."""
        recipe = Path(self._options.recipe).stem

        def work(folder: Path) -> Mapping[str, Any]:
            records = {stage.name: stage.record() for stage in stages}
            table = write_table(
                folder,
                recipe=recipe,
                evaluations={network: stage.folder / "evaluation" for network, stage in scores.items()},
                facts={name: record["facts"] for name, record in records.items() if "scores" not in name},
                machine=describe_machine(),
                seconds={
                    name: {key: record[key] for key in ("seconds", "attempts")} for name, record in records.items()
                },
            )
            print(format_table(table))
            return {}

        return self._make(
            name="table",
            settings={"recipe": recipe},
            after=stages,
            work=work,
            shown=lambda folder: [f"write {folder / 'table.md'} and table.json"],
        )


def refuse_given(name: str, overrides: Sequence[str], given: Sequence[str]) -> None:
    """Refuses options of a training that other stages decide: no folder's name would tell what they changed.

    Args:
      name: of the option of the command line.
      overrides: ``section.option=value`` each.
      given: what the stages give to the training.
    """
    for override in overrides:
        option = override.partition("=")[0].strip()
        if option in given:
            raise UserError(f"{name} {override}: the stages before the training decide {option}. Leave it out.")
        if option.startswith("fbank."):
            raise UserError(
                f"{name} {override}: the shards have the features of the recipe. Copy the recipe and its second stage, "
                f"set {option} in the copy, and give it with --recipe."
            )


def refuse_other_network(base: Config, tuned: Config) -> None:
    """Refuses a second stage that cannot start from the network of the first one, before days of training."""

    def network(config: Config) -> Config:
        how = ModelConfig()
        model = dataclasses.replace(
            config.model,
            compute_dtype=how.compute_dtype,
            rematerialize=how.rematerialize,
            batch_norm_groups=how.batch_norm_groups,
        )
        centres = config.loss.sub_centres if tuned.start.head == "match" else LossConfig().sub_centres
        return Config(fbank=config.fbank, model=model, loss=LossConfig(sub_centres=centres))

    if changed := differences(network(base), network(tuned)):
        raise UserError(
            "The fine-tuning starts from the network of the base training, but they differ (base -> fine-tuning): "
            f"{'; '.join(changed)}. Give both the same options, with --base and --fine-tuning or in the recipes."
        )


def refuse_second(folder: Path) -> None:
    """Refuses to submit a training again, which would run beside the first one.

    A command that waits for its training, and is killed, leaves no note: it may be started again.
    """
    path = folder / SUBMITTED
    if path.is_file():
        raise UserError(
            f"The training in {folder / 'run'} was submitted at {path.read_text()}. Wait until it has reached its last "
            f"step; then run the same command again. If it has ended before, remove {path} to submit it again."
        )


def second_stage(recipe: str) -> str:
    """The configuration of the fine-tuning: the name or the file with ``_lm`` appended."""
    return f"{recipe.removesuffix('.py')}_lm.py" if recipe.endswith(".py") else f"{recipe}_lm"


def _identity(config: Config, *, own_start: bool) -> Mapping[str, Any]:
    """What determines the numbers of a run; earlier stages determine the paths of its data, and where it starts.

    ``own_start``: no stage gives it a start, so that it may have one of its own.
    """
    values = to_dict(config)
    for name in ("train", "dev", "dev_trials", "num_workers", "read_threads"):
        values["data"].pop(name)
    values["augment"] = {name: value for name, value in values["augment"].items() if name not in ("noise", "rooms")}
    if not (own_start and config.start.run):
        values["start"].pop("run")
    values.pop("mesh")
    code = hash_code(values)
    return values | ({"code": code} if code else {})  # only then: folders of networks without own code keep their names


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
    signal.signal(signal.SIGTERM, pass_on)
    try:
        stages = make_stages(options)
        run_stages(stages, until=options.until, dry_run=options.dry_run, say=partial(print, flush=True))
    except UserError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped. Run the same command again to resume.")
    if stages[-1].is_done:
        print(f"The table is in {stages[-1].folder}.")


if __name__ == "__main__":
    main()
