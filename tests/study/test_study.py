"""A miniature study end to end: runs, report, resuming after a kill, refusals, and failed runs."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mqmha_jax.cli import main
from mqmha_jax.config import Config
from mqmha_jax.config_io import to_dict, with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.report.compare_files import SystemFile, compare_files
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.parallel import device_mesh, place_seed
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.runs.state import initial_network
from mqmha_jax.study import Budget, Control, Factor, Study, TrialList
from mqmha_jax.study.plan import make_plan
from mqmha_jax.study.runs import list_runs
from mqmha_jax.study.study import Outcome, run_study
from mqmha_jax.train.build import Training, build_training
from tests.support.jobs import wait_for_step
from tests.support.runs import assert_same_run
from tests.support.tiny import tiny_config, tiny_corpus, write_tiny_shards, write_tiny_trials

# A study trains a dozen runs. The quick tests have one as well: the tutorial of a loss of one's own
# (test_documentation.py); plans, effects and costs have files of their own.
pytestmark = pytest.mark.slow

REPLICATES = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training shards and two lists of different speakers."""
    directory = tmp_path_factory.mktemp("data")
    tiny_corpus(directory)
    write_tiny_shards(directory / "other", speakers=4, first=20, seed=2)
    write_tiny_trials(directory / "other.trials", speakers=4, first=20)
    return directory


BASE = tiny_config({}, steps=40, checkpoint_every=10)
POOLINGS = {"tap": ["model.pooling=tap"], "tstp": ["model.pooling=tstp"]}
RUNS = [("tap", 0), ("tstp", 0), ("tap", 1), ("tstp", 1)]


def small_study(**changes: object) -> Study:
    """Two poolings, two seeds, forty steps."""
    parts: dict[str, object] = {
        "question": "Which pooling?",
        "base": BASE,
        "factors": (Factor("pooling", POOLINGS),),
        "reference": "tap",
        "seeds": (0, 1),
        "train": "train",
        "lists": (TrialList("dev.trials", shards="dev"), TrialList("other.trials", shards="other")),
        "budget": Budget(runs=6, minutes_per_run=5.0),
    }
    return Study(**{**parts, **changes})  # type: ignore[arg-type]


def do(study: Study, data: Path, workdir: Path, said: list[str] | None = None, **options: object) -> Outcome:
    say = (said if said is not None else []).append
    options = {"replicates": REPLICATES, "progress": False, "title": "Study", **options}
    return run_study(make_plan(study, [data]), workdir, say=say, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a finished study."""
    workdir = tmp_path_factory.mktemp("study")
    outcome = do(small_study(), data, workdir)
    assert not outcome.ended.failed
    assert not outcome.ended.stopped
    return workdir


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "study")
    return tmp_path / "study"


def test_every_cell_and_seed_is_an_ordinary_run(finished: Path, data: Path) -> None:
    runs = list_runs(make_plan(small_study(), [data]), finished)
    assert [(run.cell.name, run.seed) for run in runs] == RUNS
    for run in runs:
        saved = json.loads((run.workdir / "config.json").read_text())
        assert saved == to_dict(run.config)
        assert saved["train"]["seed"] == run.seed
        assert saved["model"]["pooling"]["name"] == run.cell.name
        assert read_log(run.workdir)[-1]["step"] == 40
        assert [*json.loads((run.workdir / "evaluation" / "metrics.json").read_text())["lists"]] == ["dev", "other"]


def test_the_report_says_what_the_runs_measured(finished: Path, data: Path) -> None:
    report = json.loads((finished / "report" / "report.json").read_text())
    for name in ("dev", "other"):
        for cell in POOLINGS:
            seeds = report["lists"][name]["cells"][cell]["eer"]["seeds"]
            for seed, eer in enumerate(seeds):
                metrics = json.loads((finished / f"runs/{cell}/seed{seed}/evaluation/metrics.json").read_text())
                assert eer == metrics["lists"][name]["systems"]["cosine"]["metrics"]["EER"]["value"]
    mean = report["lists"]["mean over lists"]["cells"]
    for cell, measured in mean.items():
        parts = [report["lists"][name]["cells"][cell]["eer"]["seeds"] for name in ("dev", "other")]
        np.testing.assert_allclose(measured["eer"]["seeds"], np.mean(parts, axis=0), rtol=1e-12)
    text = (finished / "report" / "report.md").read_text()
    assert "4 of 4 runs" in text
    expected = 100 * np.mean(mean["tstp"]["eer"]["seeds"])
    assert f"| tstp | {expected:.2f} |" in re.sub(" +", " ", text)
    assert "Below 20 speakers an interval is unreliable" in text
    sizes = {cell: numbers["network_parameters"] for cell, numbers in report["cells"].items()}
    more = f"{sizes['tstp'] / sizes['tap'] - 1:.0%}"
    assert f"tstp has {more} more network parameters than the reference and no control of its size" in text
    assert (finished / "report" / "report.html").read_text().count("data:image/png;base64") == 3


def test_the_first_list_agrees_with_mqmha_compare(finished: Path) -> None:
    """Seed 0 draws the same resamples of speakers as ``mqmha compare``, and seeds in the same order."""
    systems = [[SystemFile(finished / f"runs/{cell}/seed{seed}/evaluation") for seed in (0, 1)] for cell in POOLINGS]
    (dev, _) = compare_files(*systems, replicates=REPLICATES)
    report = json.loads((finished / "report" / "report.json").read_text())
    for metric, comparison in dev.metrics.items():
        ours = report["lists"]["dev"]["cells"]["tstp"][metric]["less_reference"]
        assert ours["difference"] == pytest.approx(comparison.difference, abs=1e-12)
        assert ours["interval"] == pytest.approx(comparison.interval, abs=1e-12)
        assert ours["p_value"] == pytest.approx(comparison.p_value, abs=1e-12)


def test_the_pictures_show_something(finished: Path) -> None:
    for name in ("eer_pooling", "differences", "training"):
        pixels = np.asarray(Image.open(finished / "report" / f"{name}.png").convert("L"))
        assert min(pixels.shape) > 150
        assert 0.005 < np.mean(pixels < 200) < 0.5


def test_finished_runs_are_not_repeated(copied: Path, data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.glob("runs/*/*/*.json")}
    (copied / "report" / "report.json").unlink()
    said: list[str] = []
    do(small_study(), data, copied, said)
    assert said == []
    assert {path: path.stat().st_mtime_ns for path in copied.glob("runs/*/*/*.json")} == before
    assert (copied / "report" / "report.json").is_file()


def test_a_list_that_changed_is_evaluated_again_without_training(copied: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, changed := tmp_path / "data")
    lines = (changed / "dev.trials").read_text().splitlines(keepends=True)
    (changed / "dev.trials").write_text("".join(lines[:-20]))
    said: list[str] = []
    do(small_study(), changed, copied, said)
    assert said == [f"run {i} of 4: {cell}, seed {seed}" for i, (cell, seed) in enumerate(RUNS, start=1)]
    metrics = json.loads((copied / "runs/tstp/seed0/evaluation/metrics.json").read_text())
    assert metrics["lists"]["dev"]["targets"] + metrics["lists"]["dev"]["nontargets"] == len(lines) - 20
    for run in copied.glob("runs/*/*"):
        assert [line["step"] for line in read_log(run)] == [*range(1, 41)]


def test_a_changed_study_is_refused_with_its_options(copied: Path, data: Path) -> None:
    changed = dataclasses.replace(BASE, loss=dataclasses.replace(BASE.loss, margin=0.4))
    with pytest.raises(
        UserError,
        match=r"has changed since .*tap/seed0 was trained \(and 3 other runs differ\).*"
        r"loss\.margin: 0\.2 -> 0\.4.*another --workdir",
    ):
        do(small_study(base=changed), data, copied)


def test_a_new_level_is_added(copied: Path, data: Path) -> None:
    """Existing runs are neither measured nor trained again."""
    levels = {"mqmha": ["model.pooling=mqmha", "model.pooling.heads=2"], **POOLINGS}
    changes = {"factors": (Factor("pooling", levels),), "cells": ("mqmha", "tap")}
    said: list[str] = []
    outcome = do(small_study(**changes), data, copied, said)
    assert said == ["measuring the cost of mqmha", "run 1 of 4: mqmha, seed 0", "run 3 of 4: mqmha, seed 1"]
    assert outcome.findings is not None
    assert [one.name for one in outcome.findings.cells] == ["mqmha against tap"]


def test_too_few_minutes_are_refused_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mqmha_jax.study.runs.train", lambda *_, **__: pytest.fail("it was trained"))
    study = small_study(base=tiny_config({}, steps=10_000_000), budget=Budget(runs=4, minutes_per_run=0.5))
    with pytest.raises(UserError, match=r"cell 'tap' would take .* minutes .*allows 0\.5: give at most \d+ steps"):
        do(study, data, tmp_path)
    assert not (tmp_path / "runs").exists()
    assert not list((tmp_path / "cost").iterdir())  # measured again by the next call


def test_a_control_is_trained_and_compared_with_its_cell(copied: Path, data: Path) -> None:
    control = Control(of="tstp", cell="tap", option="model.encoder.final_channels")
    outcome = do(small_study(controls=(control,), seeds=(0,)), data, copied)
    assert outcome.findings is not None
    (comparison,) = outcome.findings.controls
    assert comparison.name == "tstp against tap-as-large-as-tstp"
    report = json.loads((copied / "report" / "report.json").read_text())
    sizes = {name: cell["network_parameters"] for name, cell in report["cells"].items()}
    assert sizes["tap-as-large-as-tstp"] == pytest.approx(sizes["tstp"], rel=0.05)
    assert sizes["tap"] < 0.95 * sizes["tstp"]
    assert "no control of its size" not in (copied / "report" / "report.md").read_text()


def test_seeds_share_their_programs_and_differ_in_their_numbers() -> None:
    """The seed is an argument of the program, and starts from the same values as the configuration's seed."""
    trainings = [build(with_overrides(BASE, [f"train.seed={seed}"])) for seed in (3, 4)]
    for program in ("step", "init"):
        texts = [
            getattr(one, program).lower(*([one.state, one.batch] if program == "step" else []), one.seed).as_text()
            for one in trainings
        ]
        assert texts[0] == texts[1]
    first, second = (one.init(place_seed(seed, one.mesh)) for one, seed in zip(trainings, (3, 4), strict=True))
    assert not np.array_equal(first.params["head"]["prototypes"], second.params["head"]["prototypes"])
    config = with_overrides(BASE, ["train.seed=3"])
    network = initial_network(config, build_speaker_net(config.model))
    np.testing.assert_array_equal(network["params"]["embedding"]["kernel"], first.params["net"]["embedding"]["kernel"])


def build(config: Config) -> Training:
    return build_training(config, num_speakers=8, mesh=device_mesh(config.mesh))


STUDY_FILE = """
from mqmha_jax.config_io import load_config
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.parallel import device_mesh
from mqmha_jax.study import Budget, Factor, Study, TrialList

STUDY = Study(
    question="Which pooling?",
    base=load_config({config!r}),
    factors=(Factor("pooling", {levels}),),
    reference="tap",
    seeds=(0,),
    train="train",
    lists=(TrialList("dev.trials", shards="dev"), TrialList("other.trials", shards="other")),
    budget=Budget(runs=3, minutes_per_run=5.0),
)
"""


def command(levels: dict[str, list[str]], data: Path, root: Path) -> list[str]:
    """``mqmha study`` in ``root / "study"``, with one seed."""
    (root / "base.json").write_text(json.dumps(to_dict(BASE)))
    path = root / "miniature.py"
    path.write_text(STUDY_FILE.format(config=str(root / "base.json"), levels=levels))
    options = ["--workdir", root / "study", "--data", data, "--quiet", "--replicates", REPLICATES]
    return ["study", *map(str, [path, *options])]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_study_resumes_after_its_process_ended(
    number: signal.Signals, finished: Path, data: Path, tmp_path: Path
) -> None:
    """The result is bit-identical to that without an interruption."""
    arguments, workdir = command(POOLINGS, data, tmp_path), tmp_path / "study"
    program = [sys.executable, "-m", "mqmha_jax", *arguments]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
        try:
            wait_for_step(workdir / "runs" / "tap" / "seed0", 3, [job])
            job.send_signal(number)
            output = job.communicate(timeout=120)[0]
        finally:
            job.kill()
    if number == signal.SIGTERM:
        assert job.returncode == 143, output
        assert "Stopped. Run the same command again to resume." in output
    assert not (workdir / "runs" / "tap" / "seed0" / "finished.json").exists()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "run 2 of 2: tstp, seed 0" in result.output
    assert "\npooling tstp against tap: " in result.output
    for cell in POOLINGS:
        assert_same_run(workdir / "runs" / cell / "seed0", finished / "runs" / cell / "seed0")


def test_a_failed_run_is_reported_and_the_rest_continues(data: Path, copied: Path) -> None:
    """At this learning rate no loss stays finite; the other runs exist, and the last one is not evaluated yet."""
    (copied / "runs/tstp/seed0/finished.json").unlink()
    hot = {"hot": ["model.pooling=tap", "optimizer.learning_rate=1e30", "train.max_skipped_in_row=2"]}
    result = CliRunner().invoke(main, command(hot | POOLINGS, data, copied.parent))
    assert result.exit_code == 1
    assert "Failed: hot, seed 0: " in result.output
    assert "run 3 of 3: tstp, seed 0" in result.output
    text = (copied / "report" / "report.md").read_text()
    assert "2 of 3 runs" in text
    assert "\n- hot, seed 0: " in text
    assert "| tstp " in text
    assert "One seed: the intervals say nothing" in text


def test_without_the_reference_there_is_no_report(data: Path, tmp_path: Path) -> None:
    """All comparisons need the reference."""
    hot = small_study(
        base=with_overrides(BASE, ["optimizer.learning_rate=1e30", "train.max_skipped_in_row=2"]),
        cells=("tap",),
        seeds=(0,),
    )
    outcome = do(hot, data, tmp_path)
    assert [*outcome.ended.failed] == ["tap, seed 0"]
    assert outcome.findings is None
    assert not (tmp_path / "report" / "report.md").exists()
