"""A study does not mix runs of different code or of different training data; unchanged, it resumes."""

import shutil
from pathlib import Path

import pytest

from mqmha_jax.data.joined_shards import open_training_shards
from mqmha_jax.data.noise_and_rooms import identify
from mqmha_jax.errors import UserError
from mqmha_jax.runs.workdir import lock_workdir
from mqmha_jax.study import Budget, Factor, Study, TrialList
from mqmha_jax.study.plan import Plan, make_plan
from mqmha_jax.study.runs import list_runs, refuse_changed
from tests.support.tiny import tiny_config, tiny_corpus, write_tiny_shards


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A loss of one's own against ours, two seeds; all four runs are there, with what describes them only."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    tiny_corpus(tmp_path)
    (tmp_path / "own.py").write_text("def margin(cosine, margin):\n    return cosine - margin\n")
    study = Study(
        question="?",
        base=tiny_config({}),
        factors=(Factor("loss", {"am": ["loss.name=am"], "own": [f"loss.name={tmp_path / 'own.py'}:margin"]}),),
        reference="am",
        seeds=(0, 1),
        train="train",
        lists=(TrialList("dev.trials", shards="dev"),),
        budget=Budget(runs=4, minutes_per_run=5.0),
    )
    plan = make_plan(study, [tmp_path])
    for run in list_runs(plan, tmp_path / "study"):
        shards = open_training_shards(run.config.data)
        lock_workdir(run.workdir, run.config, shards.identity() | identify(None), shards.speakers).close()
    return plan


def test_an_unchanged_study_resumes_also_with_its_data_elsewhere(plan: Plan, tmp_path: Path) -> None:
    refuse_changed(list_runs(plan, tmp_path / "study"))
    shutil.copytree(tmp_path / "train", tmp_path / "moved" / "train")
    moved = make_plan(plan.study, [tmp_path / "moved", tmp_path])
    refuse_changed(list_runs(moved, tmp_path / "study"))


def test_changed_code_is_refused(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def margin(cosine, margin):\n    return cosine - 2 * margin\n")
    with pytest.raises(
        UserError, match=r"changed since .*own/seed0 was trained \(and 1 other runs differ\).*code: .* -> .*own\.py, or"
    ):
        refuse_changed(list_runs(plan, tmp_path / "study"))


def test_other_training_data_are_refused(plan: Plan, tmp_path: Path) -> None:
    write_tiny_shards(tmp_path / "other" / "train", speakers=8, seed=5)
    other = make_plan(plan.study, [tmp_path / "other", tmp_path])
    with pytest.raises(
        UserError, match=r"\(and 3 other runs differ\).*training data, fingerprint: \w+ -> \w+.* Restore"
    ):
        refuse_changed(list_runs(other, tmp_path / "study"))
