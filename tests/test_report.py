"""The table reads well, the files hold every digit, and a failed write harms nothing."""

import json
import os

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.evaluate import measure_trials
from mqmha_jax.evaluation.metrics import equal_error_rate
from mqmha_jax.evaluation.report import result_table, write_results, write_threshold
from mqmha_jax.types import Trials


def result_of(name, seed=0, num_trials=1200):
    rng = np.random.default_rng(seed)
    target = rng.random(num_trials) < 0.3
    ids = tuple(f"u{i}" for i in range(num_trials))
    scores = (rng.normal(size=num_trials) + 2 * target).astype(np.float32)
    utt2spk = {utterance: str(i % 7) for i, utterance in enumerate(ids)} if seed == 0 else None
    return measure_trials(scores, Trials(ids, ids[::-1], target), name=name, utt2spk=utt2spk)


def test_table():
    one, two = result_of("libri"), result_of("telephone", seed=1)
    header, rule, *rows = (line.split() for line in result_table([one, two]).splitlines())
    assert " ".join(header) == "list EER % minDCF 0.01 minDCF 0.05 target nontarget speakers"
    assert set("".join(rule)) == {"-"}
    assert rows[0][:4] == ["libri", f"{100 * one.eer:.2f}", f"{one.min_dcf[0.01]:.3f}", f"{one.min_dcf[0.05]:.3f}"]
    assert rows[0][-1] == "7"
    assert rows[1][-1] == "-"  # speakers unknown
    assert rows[2][:2] == ["mean", f"{50 * (one.eer + two.eer):.2f}"]
    assert "mean" not in result_table([one])


def test_files_bring_the_numbers_back(tmp_path):
    results = [result_of("libri 10/dev"), result_of("telephone", seed=1)]
    write_results(tmp_path / "new" / "run", results, title="two lists")
    directory = tmp_path / "new" / "run"
    assert sorted(path.name for path in directory.iterdir()) == [
        "metrics.json",
        "results.png",
        "results.txt",
        "scores_libri-10-dev.txt",
        "scores_telephone.txt",
    ]
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["telephone"]["eer"] == results[1].eer
    assert metrics["libri 10/dev"]["min_dcf"] == {"0.01": results[0].min_dcf[0.01], "0.05": results[0].min_dcf[0.05]}
    assert (directory / "results.txt").read_text() == result_table(results) + "\n"
    rows = [line.split() for line in (directory / "scores_telephone.txt").read_text().splitlines()]
    assert tuple(row[0] for row in rows) == results[1].trials.enrol
    assert tuple(row[1] for row in rows) == results[1].trials.test
    scores = np.array([row[2] for row in rows], np.float32)
    np.testing.assert_array_equal(scores, results[1].scores)
    assert equal_error_rate(scores, np.array([row[3] == "1" for row in rows])) == results[1].eer


def test_threshold_file(tmp_path):
    result = result_of("dev")
    write_threshold(tmp_path, result, step=40)
    assert json.loads((tmp_path / "threshold.json").read_text()) == {
        "threshold": result.threshold,
        "list": "dev",
        "eer": result.eer,
        "speakers": 7,
        "step": 40,
    }


def test_lists_that_would_share_a_file_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"Two trial lists would both be written to scores_a-b\.txt; give them different"
    ):
        write_results(tmp_path, [result_of("a/b"), result_of("a b")])
    assert not list(tmp_path.iterdir())


def test_full_disk_keeps_the_earlier_file(tmp_path, monkeypatch):
    write_threshold(tmp_path, result_of("old"), step=1)
    earlier = (tmp_path / "threshold.json").read_text()

    def no_space(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(
        UserError, match=r"threshold.json: can not be written \(No space left on device\); free some space"
    ):
        write_threshold(tmp_path, result_of("new", seed=1), step=2)
    assert (tmp_path / "threshold.json").read_text() == earlier
    assert [path.name for path in tmp_path.iterdir()] == ["threshold.json"]


def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken/threshold.json: can not be written \(File exists\)"):
        write_threshold(tmp_path / "taken", result_of("dev"), step=1)
