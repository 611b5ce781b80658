"""Trains and evaluates the unfinished runs of a study; each run is an ordinary work directory."""

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mqmha_jax.atomic import write_json, write_text
from mqmha_jax.config import AugmentConfig, Config, DataConfig, FbankSpec
from mqmha_jax.config_io import differences, to_dict
from mqmha_jax.data.joined_shards import open_training_shards
from mqmha_jax.data.noise_and_rooms import identify, open_noise_and_rooms
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.evaluation.metrics.measure_list import Measuring
from mqmha_jax.evaluation.report.output_files import METRICS_FILE
from mqmha_jax.evaluation.report.tables import write_numbers
from mqmha_jax.json_file import read_json
from mqmha_jax.own_code.contents import hash_code
from mqmha_jax.own_code.copies import list_changed_code
from mqmha_jax.runs.data_paths import locate_data
from mqmha_jax.runs.run_files import CONFIG_NAME
from mqmha_jax.runs.workdir import list_other_data, read_config
from mqmha_jax.study.plan import Cell, Plan
from mqmha_jax.train.loop import train

EVALUATION, _FINISHED, _FAILED = "evaluation", "finished.json", "failed.txt"

# The location of the data and the devices change no number; what the data are is compared apart.
_MAY_CHANGE = ("data.train:", "data.num_workers:", "data.read_threads:", "mesh.")

Say = Callable[[str], None]


class Run(NamedTuple):
    """One training.

    Attributes:
      cell: cell to train.
      seed: seed of the training.
      workdir: work directory.
    """

    cell: Cell
    seed: int
    workdir: Path

    @property
    def config(self) -> Config:
        """Configuration with the seed."""
        return self.cell.with_seed(self.seed)

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.cell.name}, seed {self.seed}"

    @property
    def has_begun(self) -> bool:
        """Whether the work directory holds a run."""
        return (self.workdir / CONFIG_NAME).is_file()


class Ended(NamedTuple):
    """How a call of ``do_runs`` ended.

    Attributes:
      failed: name of a run -> what went wrong.
      stopped: a signal stopped the runs before all were done.
    """

    failed: dict[str, str]
    stopped: bool


def list_runs(plan: Plan, workdir: Path) -> list[Run]:
    """Lists every cell with the first seed, then with the next, so that an interrupted study can compare cells."""
    return [
        Run(cell, seed, workdir / "runs" / cell.name / f"seed{seed}")
        for seed in plan.study.seeds
        for cell in plan.cells
    ]


def refuse_changed(runs: list[Run]) -> None:
    """Refuses a study that has changed since its runs were trained: its options, its own code or its training data.

    Finished runs are compared too, because their results would be averaged with those of the others.

    Raises:
      UserError: the study has changed; the message names the runs and what differs.
    """
    identify_once = functools.cache(_identify_data)  # the runs of a study share their data, which take a while to open
    changed: list[tuple[Run, list[str]]] = []
    for run in runs:
        if run.has_begun:
            lines = differences(read_config(run.workdir), run.config)
            lines = [line for line in lines if not line.startswith(_MAY_CHANGE)]
            if not lines:  # the data need not fit other options
                for file, copy in list_changed_code(hash_code(to_dict(run.config)), run.workdir).items():
                    lines.append(f"code: {copy} -> {file}, or a file that it imports")
                config = locate_data(run.config, run.workdir)
                data = identify_once(config.data, config.augment, config.fbank)
                lines += [f"training data, {line}" for line in list_other_data(run.workdir, data)]
            if lines:
                changed.append((run, lines))
    if changed:
        run, lines = changed[0]
        others = f" (and {len(changed) - 1} other runs differ)" if len(changed) > 1 else ""
        raise UserError(
            f"The study has changed since {run.workdir} was trained{others}; these differ (saved -> now): "
            f"{'; '.join(lines)}. Restore them, delete the runs to train again, or give another --workdir."
        )


def is_finished(run: Run, plan: Plan) -> bool:
    """Says whether a run was trained to the end and evaluated on the present lists."""
    try:
        known = read_json(run.workdir / _FINISHED, dict, advice="")
    except UserError:  # missing or damaged: the run is evaluated again
        return False
    return known == _describe_finished(run, plan) and (run.workdir / EVALUATION / METRICS_FILE).is_file()


def do_runs(runs: list[Run], plan: Plan, *, say: Say, progress: bool) -> Ended:
    """Trains and evaluates the runs that are not finished.

    If a run fails, its error is recorded and the next run starts.

    Args:
      runs: runs, in the order in which to do them.
      plan: plan of the study.
      say: receives a message for each run.
      progress: show progress bars.
    """
    failed: dict[str, str] = {}
    for position, run in enumerate(runs, start=1):
        if is_finished(run, plan):
            continue
        say(f"run {position} of {len(runs)}: {run.name}")
        try:
            if not train(run.config, run.workdir, progress=progress).finished:
                return Ended(failed, stopped=True)
            _evaluate(run, plan)
            (run.workdir / _FAILED).unlink(missing_ok=True)
        except UserError as error:
            failed[run.name] = str(error)
        except Exception as error:  # a fault in one cell must not stop the others
            failed[run.name] = f"{type(error).__name__}: {error}"
            write_text(run.workdir / _FAILED, traceback.format_exc())
        if run.name in failed:
            say(f"Failed: {run.name}: {failed[run.name]}")
        jax.clear_caches()  # frees the programs of a finished cell; the cache on disk keeps them
    return Ended(failed, stopped=False)


def _evaluate(run: Run, plan: Plan) -> None:
    evaluation = evaluate_run(
        run.workdir,
        data=list(dict.fromkeys(part.shards for part in plan.lists)),
        lists=[part.trials for part in plan.lists],
        measuring=Measuring(replicates=0),  # the report resamples all runs together
        progress=False,
    )
    write_numbers(run.workdir / EVALUATION, evaluation, title=run.name)
    write_json(run.workdir / _FINISHED, _describe_finished(run, plan))


def _identify_data(data: DataConfig, augment: AugmentConfig, fbank: FbankSpec) -> dict[str, Any]:
    """What ``train`` records about the training data; the seed of the noises chooses among them only."""
    shards = open_training_shards(data, fbank)
    return shards.identity() | identify(open_noise_and_rooms(augment, fbank, seed=0))


def _describe_finished(run: Run, plan: Plan) -> dict[str, object]:
    return {"steps": run.config.train.steps, "lists": {part.name: part.fingerprint for part in plan.lists}}
