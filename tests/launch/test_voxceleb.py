"""VoxCeleb in one command, on a miniature in the owners' layout."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.voxceleb_miniature import write_miniature

STAGES = (
    *("unpack", "manifests", "dev-list", "lists", "noises", "train-shards", "eval-shards", "cohort", "calibration"),
    *("base", "base-average", "fine-tuning", "average", "base-scores", "scores", "table"),
)
SYSTEMS = {"cosine", "cosine calibrated", "as-norm", "as-norm calibrated"}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(tmp_path_factory.mktemp("miniature"))


def run(recipe: Path, work: Path, *options: str, kill: str | None = None, status: int = 0) -> str:
    program = [ROOT / "tests" / "support" / "killed_voxceleb.py", kill] if kill else [ROOT / "launch" / "voxceleb.py"]
    words = ["--archives", recipe.parent / "downloads", "--work", work, "--recipe", recipe, *options]
    done = subprocess.run(
        [sys.executable, *program, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert done.returncode == status, done.stdout[-3000:]
    return done.stdout


def states(said: str) -> dict[str, str]:
    """``done``, ``to do`` or ``resumes`` of each stage, as the command says before the stage."""
    return dict(re.findall(r"^\d+\. ([a-z-]+): (done|to do|resumes), ", said, re.M))


def read_table(work: Path) -> dict[str, Any]:
    (path,) = work.glob("table-*/table.json")
    return json.loads(path.read_text())


def test_the_plan_names_every_stage_its_cost_and_its_commands(miniature: Path, tmp_path: Path) -> None:
    said = run(miniature, tmp_path / "work", "--dry-run", "--train-with", "sbatch --wait launch/slurm.sbatch")
    assert states(said) == dict.fromkeys(STAGES, "to do")
    assert len(re.findall(r"to do, about [\d.]+ GB, [\d.]+ (?:min|h)", said)) == len(STAGES)
    assert f"sbatch --wait launch/slurm.sbatch {miniature} --workdir {tmp_path / 'work' / 'base-'}" in said
    assert "--speeds 1.0,0.9,1.1 --versions clean" in said
    assert said.splitlines()[-1].startswith("To do: about ")
    assert not list((tmp_path / "work").glob("*-*")), "nothing is done"
    offline = run(miniature, tmp_path / "work", "--dry-run", "--augment", "offline", "--until", "base")
    assert "--versions clean,reverb,noise,music,babble --noise" in offline
    assert "augment.noise=" not in offline


def test_mistakes_are_sentences(miniature: Path, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    shutil.copytree(miniature.parent / "downloads", downloads)
    middle = downloads / "vox2_dev_aac_partab"
    middle.with_suffix(".md5").write_text("no part of the archive")
    for name in ("mini.py", "mini_lm.py"):
        shutil.copyfile(miniature.with_name(name), tmp_path / name)
    recipe, work = tmp_path / "mini.py", tmp_path / "work"
    assert "partac, rirs_noises.zip, musan.tar.gz" in run(recipe, work, "--dry-run", "--until", "unpack")
    middle.unlink()
    said = run(recipe, work, "--dry-run", "--until", "unpack", status=1)
    assert "not a whole zip archive" in said
    assert "(here: vox2_dev_aac_partaa, vox2_dev_aac_partac)" in said
    for path in downloads.glob("vox2_dev_aac_part*"):
        path.unlink()
    said = run(recipe, work, "--dry-run", status=1)
    assert "Error: " in said
    assert "has neither vox2_dev_aac.zip nor its parts vox2_dev_aac_parta*, nor a folder vox2. Get them from" in said
    said = run(miniature, work, "--dry-run", "--devices", "8xH1000", status=1)
    assert "Error: Unknown --devices '8xH1000'. Did you mean '8xH100'?" in said
    said = run(miniature, work, "--dry-run", "--devices", "0xH100", status=1)
    assert "Error: --devices 0xH100: nothing trains without a device. Give at least 1xH100." in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--base", "data.train=other"], "--base data.train=other: the stages before the training decide data.train."),
        (["--fine-tuning", "start.run=other"], "--fine-tuning start.run=other: the stages before the training decide"),
        (["--base", "fbank.num_mel_bins=24"], "the shards have the features of the recipe. Copy the recipe"),
        (
            ["--base", "model.embedding_dim=12", "--base", "loss.sub_centres=1"],
            "they differ (base -> fine-tuning): loss.sub_centres: 1 -> 2; model.embedding_dim: 12 -> 8. Give both",
        ),
    ],
)
def test_trainings_that_would_fail_after_days_are_refused(
    miniature: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    assert message in run(miniature, tmp_path / "work", "--dry-run", *options, status=1)


def test_another_start_of_the_base_training_makes_another_folder(miniature: Path, tmp_path: Path) -> None:
    def folder(*options: str) -> str:
        said = run(miniature, tmp_path / "work", "--dry-run", *options)
        return re.findall(r"^\d+\. base: .*, in base-([0-9a-f]{10})$", said, re.M)[0]

    folders = [folder(), folder("--base", "start.run=one"), folder("--base", "start.run=other")]
    assert len(set(folders)) == 3


@pytest.mark.slow
def test_from_archives_to_the_table_and_the_same_when_killed_in_every_stage(miniature: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(miniature, whole)
    table = read_table(whole)
    assert {row["system"] for row in table["rows"]} == SYSTEMS
    assert {row["network"] for row in table["rows"]} == {"base", "fine-tuned"}
    assert all(set(row["metrics"]) == {"O", "E", "H"} for row in table["rows"])
    assert table["facts"]["base"] | {"data": ""} == {"steps": 12, "speakers": 24, "data": ""}  # 8 at three speeds
    assert table["facts"]["fine-tuning"]["speakers"] == 8
    assert table["facts"]["unpack"]["files"] == {"vox1/dev": 12, "vox1/test": 12, "vox2/dev": 32, "rirs": 2}
    text = next(whole.glob("table-*/table.md")).read_text()
    assert "**Not ours, not measured by us**" in text
    assert "| fine-tuned, as-norm calibrated |" in text

    for stage in STAGES:
        run(miniature, killed, kill=stage, status=-signal.SIGKILL)
        assert not list(killed.glob(f"{stage}-*/stage.json")), stage
    said = run(miniature, killed)
    assert states(said) == dict.fromkeys(STAGES, "done") | {"table": "resumes"}
    again = read_table(killed)
    assert all(values["attempts"] == 2 for values in again["seconds"].values())
    for one in (table, again):
        one.pop("seconds")
    assert again == table

    said = run(miniature, killed)
    assert states(said) == dict.fromkeys(STAGES, "done"), "a finished job has nothing to do"


def test_a_changed_list_redoes_it_and_what_follows_and_no_training(miniature: Path, tmp_path: Path) -> None:
    def keys() -> dict[str, str]:
        said = run(tmp_path / "mini.py", tmp_path / "work", "--dry-run")
        return dict(re.findall(r"^\d+\. ([a-z-]+): .*, in [a-z-]+-([0-9a-f]{10})$", said, re.M))

    for name in ("mini.py", "mini_lm.py"):
        shutil.copyfile(miniature.with_name(name), tmp_path / name)
    shutil.copytree(miniature.parent / "downloads", tmp_path / "downloads")
    before = keys()
    assert list(before) == list(STAGES)
    path = tmp_path / "downloads" / "list_test_hard2.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    after = keys()
    changed = {name for name in STAGES if after[name] != before[name]}
    assert changed == {"lists", "base-scores", "scores", "table"}


def test_changed_code_of_the_users_own_makes_new_stages(miniature: Path, tmp_path: Path) -> None:
    def keys() -> dict[str, str]:
        said = run(miniature, tmp_path / "work", "--dry-run", "--base", f"loss.name={own}:margin")
        return dict(re.findall(r"^\d+\. ([a-z-]+): .*, in [a-z-]+-([0-9a-f]{10})$", said, re.M))

    own = tmp_path / "own.py"
    own.write_text("def margin(cosine, margin):\n    return cosine - margin\n")
    before = keys()
    own.write_text("def margin(cosine, margin):\n    return cosine - 2 * margin\n")
    after = keys()
    assert {name for name in STAGES if after[name] == before[name]} == {*STAGES[: STAGES.index("base")]}
