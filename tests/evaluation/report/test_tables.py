"""Tables are correct, files keep every digit and name each other, and a failed write harms nothing."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.data.metadata import Metadata
from mqmha_jax.data.score_files import read_scored_trials
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.measure_list import Measuring, Scores, evaluate_list
from mqmha_jax.evaluation.metrics.results import ListEvaluation
from mqmha_jax.evaluation.report.output_files import check_output
from mqmha_jax.evaluation.report.tables import format_tables, write_evaluation
from mqmha_jax.evaluation.results import Evaluation
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.json_file import write_sealed_json
from tests.support.clouds import all_pairs, cloud, speakers_of

EMBEDDINGS = cloud(21, utterances=3)
TRIALS = all_pairs(EMBEDDINGS.ids)
COSINE = cosine_scores(EMBEDDINGS, TRIALS)
UTT2SPK = speakers_of(EMBEDDINGS.ids)


def evaluated(name: str, *, known: bool = True, shift: float = 0) -> ListEvaluation:
    systems = {"cosine": Scores(COSINE), "cosine calibrated": Scores(4 * COSINE.astype(float) + shift, True)}
    facts = Metadata(UTT2SPK, {}) if known else Metadata({}, {})
    return evaluate_list(name, TRIALS, systems, known=facts, measuring=Measuring(replicates=30))


def evaluation(*lists: ListEvaluation) -> Evaluation:
    return Evaluation(lists, {"embeddings": "clouds"}, ("a doubt.",), {}, EMBEDDINGS, UTT2SPK)


def test_tables() -> None:
    one, two = evaluated("near"), evaluated("far", known=False, shift=1)
    near, far, means = format_tables([one, two]).split("\n\n")
    heading, header, rule, cosine, calibrated = near.splitlines()
    assert heading == "near: 63 target and 1,890 nontarget trials, 21 speakers"
    assert header.split("  ")[0] == "system"
    assert set(rule) == {"-", " "}
    eer = one.systems[0].metrics["EER"]
    assert eer.low is not None
    assert eer.high is not None
    assert f"{100 * eer.value:.2f} [{100 * eer.low:.2f}, {100 * eer.high:.2f}]" in cosine
    assert "actDCF" in header
    assert len(cosine.split("]")) == 4  # three intervals and the end: no actDCF of scores that are not calibrated
    assert len(calibrated.split("]")) == 7
    assert far.splitlines()[0].endswith("trials, speakers unknown: no intervals")
    assert "[" not in far
    cllr = [part.systems[1].metrics["Cllr"].value for part in (one, two)]
    assert means.startswith("mean over 2 lists")
    assert f"{np.mean(cllr):.3f}" in means.splitlines()[-1]
    assert "mean" not in format_tables([one])
    assert "mean" not in format_tables([one, two], mean=False)


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    folder = os.fsdecode(b"voices \xff")
    made = evaluation(evaluated("list"))._replace(settings={"embeddings": folder}, notes=(folder,))
    write_evaluation(tmp_path, made, title=folder)
    page = (tmp_path / "report.html").read_text()
    assert page.count(r"voices \udcff") == 4  # window, heading, setting, note
    assert json.loads((tmp_path / "metrics.json").read_text())["settings"]["embeddings"] == folder


def test_few_speakers_cause_a_warning() -> None:
    part = evaluated("few")._replace(num_speakers=9, reliable=False)
    assert "9 speakers; below 20 speakers: interval unreliable" in format_tables([part])


def test_files_keep_the_numbers(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "run"
    lists = [evaluated("libri 10/dev"), evaluated("phone", shift=1)]
    write_evaluation(directory, evaluation(*lists), title="two lists")
    assert sorted(path.name for path in directory.iterdir()) == [
        "metrics.json",
        "report.html",
        "results.txt",
        "results_libri-10-dev.png",
        "results_phone.png",
        "scores_libri-10-dev_cosine-calibrated.txt",
        "scores_libri-10-dev_cosine.txt",
        "scores_phone_cosine-calibrated.txt",
        "scores_phone_cosine.txt",
        "utt2spk.txt",
    ]
    saved = json.loads((directory / "metrics.json").read_text())
    assert saved["notes"] == ["a doubt."]
    assert saved["lists"]["phone"]["speakers"] == 21
    for part in lists:
        for system in part.systems:
            numbers = saved["lists"][part.name]["systems"][system.name]
            assert numbers["metrics"]["EER"] == system.metrics["EER"]._asdict()
            assert numbers["threshold"] == system.threshold
            trials, scores = read_scored_trials(directory / numbers["scores"])
            assert (trials.enrol, trials.test) == (TRIALS.enrol, TRIALS.test)
            np.testing.assert_array_equal(trials.target, TRIALS.target)
            np.testing.assert_array_equal(scores.astype(system.scores.dtype), system.scores)
    assert (directory / "results.txt").read_text() == format_tables(lists) + "\n"
    assert (directory / saved["utt2spk"]).read_text().splitlines()[0] == "s0/u0 s0"
    page = (directory / "report.html").read_text()
    assert "two lists" in page
    assert "a doubt." in page


def test_lists_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    message = r"Two sets of scores would both be written to scores_a-b_cosine\.txt; rename"
    with pytest.raises(UserError, match=message):
        write_evaluation(tmp_path, evaluation(evaluated("a/b"), evaluated("a b")))
    assert not list(tmp_path.iterdir())


def test_results_of_other_lists_are_removed(tmp_path: Path) -> None:
    """They used to lie beside the new ones and looked like part of them."""
    (tmp_path / "notes.txt").write_text("the user's own")
    write_evaluation(tmp_path, evaluation(evaluated("old"), evaluated("both")))
    write_evaluation(tmp_path, evaluation(evaluated("both")))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json",
        "notes.txt",
        "report.html",
        "results.txt",
        "results_both.png",
        "scores_both_cosine-calibrated.txt",
        "scores_both_cosine.txt",
        "utt2spk.txt",
    ]


def test_nothing_outside_the_directory_is_removed(tmp_path: Path) -> None:
    """Even if a received metrics.json names a file outside."""
    outside = tmp_path / "outside.txt"
    outside.write_text("stays")
    lists = {"x": {"systems": {"s": {"scores": "../outside.txt"}}}}
    write_sealed_json(tmp_path / "in" / "metrics.json", {"lists": lists, "utt2spk": str(outside)})
    write_evaluation(tmp_path / "in", evaluation(evaluated("new")))
    assert outside.read_text() == "stays"


def test_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is a file; the output is a directory"):
        check_output(tmp_path / "file")
    (tmp_path / "out" / "metrics.json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"metrics\.json is a directory"):
        check_output(tmp_path / "out")
    for name in ("report.html", "results_dev.png", "scores_dev_cosine.txt"):
        (tmp_path / name / name).mkdir(parents=True)
        with pytest.raises(UserError, match=f"{name} is a directory"):
            check_output(tmp_path / name)
