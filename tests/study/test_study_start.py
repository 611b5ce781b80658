"""A study whose runs start from an imported network."""

import dataclasses
import functools
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.interop.import_run import import_run
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.workdir import lock_workdir
from mqmha_jax.study import Budget, Factor, Study, TrialList
from mqmha_jax.study.plan import Plan, make_plan
from mqmha_jax.study.runs import Run, do_runs, list_runs
from mqmha_jax.study.starts import refuse_changed_starts
from mqmha_jax.study.study import run_study
from tests.support.foreign import write_small_checkpoint
from tests.support.tiny import SPEC, tiny_config, tiny_corpus


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two starts of the prototypes, two seeds; the network hardly learns, so that its origin can be seen."""
    tiny_corpus(tmp_path)
    write_small_checkpoint(tmp_path / "avg_model.pt", SPEC.num_features)
    fbank = {"num_mel_bins": SPEC.num_mel_bins}
    imported = import_run(tmp_path / "avg_model.pt", tmp_path / "imported", fbank=fbank).file
    base = with_overrides(
        dataclasses.replace(tiny_config({}, steps=2, checkpoint_every=2), model=imported.config.model),
        [f"start.run={tmp_path / 'imported'}", "start.batch_norm=keep", "optimizer.learning_rate=1e-20"],
    )
    study = Study(
        question="Where do prototypes start?",
        base=base,
        factors=(Factor("head", {name: [f"start.head={name}"] for name in ("means", "fresh")}),),
        reference="means",
        seeds=(0, 1),
        train="train",
        lists=(TrialList("dev.trials", shards="dev"),),
        budget=Budget(runs=4, minutes_per_run=5.0),
    )
    return make_plan(study, [tmp_path])


def require_imported_network(run: Run, imported: Path) -> np.ndarray:
    """Returns the prototypes of a run that started from the imported network."""
    ours, theirs = load_network(run.workdir, with_head=True), load_network(imported)
    for name in ("encoder", "embedding"):
        same = functools.partial(np.testing.assert_allclose, atol=1e-12)
        jax.tree.map(same, ours.variables["params"][name], theirs.variables["params"][name])
    return ours.head["prototypes"]


def test_a_run_of_a_study_starts_from_an_imported_network(plan: Plan, tmp_path: Path) -> None:
    runs = list_runs(plan, tmp_path / "study")[:1]
    ended = do_runs(runs, plan, say=lambda _: None, progress=False)
    assert not ended.failed
    require_imported_network(runs[0], tmp_path / "imported")


def test_a_network_that_changes_during_the_study_is_refused(plan: Plan, tmp_path: Path) -> None:
    runs, study = list_runs(plan, tmp_path / "study"), tmp_path / "study"
    refuse_changed_starts(runs, study)
    lock_workdir(runs[0].workdir, runs[0].config, {}, ()).close()  # the first run of the cell "means" begins
    refuse_changed_starts(runs, study)

    checkpoints = tmp_path / "imported" / "checkpoints"
    shutil.copytree(checkpoints / "0", checkpoints / "3")  # the imported network trains on
    with pytest.raises(
        UserError,
        match=r"means, seed 1, would start from the checkpoint of step 3 .*/imported, but .* step 0 .*runs/means",
    ):
        refuse_changed_starts(runs, study)
    refuse_changed_starts([run for run in runs if run.cell.name == "fresh"], study)  # none of its runs has begun

    shutil.rmtree(checkpoints / "3")
    refuse_changed_starts(runs, study)


@pytest.mark.slow
def test_a_whole_study_starts_from_an_imported_network(plan: Plan, tmp_path: Path) -> None:
    outcome = run_study(plan, tmp_path / "study", title="Study", say=lambda _: None, replicates=20, progress=False)
    assert not outcome.ended.failed
    assert (tmp_path / "study" / "report" / "report.md").is_file()
    found = {
        (run.cell.name, run.seed): require_imported_network(run, tmp_path / "imported")
        for run in list_runs(plan, tmp_path / "study")
    }
    np.testing.assert_allclose(found["means", 0], found["means", 1], atol=0.3)  # apart from the sub-centres' spread
    assert not np.allclose(found["fresh", 0], found["fresh", 1], atol=0.3)
