"""Score files: readers find pairs in any order, keep every digit, and name every kind of damage."""

from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.data.score_files import read_scored_trials, read_scores, write_scores
from mqmha_jax.errors import UserError
from mqmha_jax.types import Trials

TRIALS = Trials(("a", "a", "b"), ("b", "c", "c"), np.array([True, False, False]))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scores.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "b c -3e-1\na b 0.5\nx y 9\na c 0.25\n",  # another order, and a pair of another list
        "a b 0.5 1\na c 0.25 0\nb c -0.3 0\n",
        "a c 0.25 nontarget\nx y 9 target\na b 0.5 target\nb c -0.3 nontarget\n",
        "0.5\n0.25\n\n-0.3\n",
        "a b 0.5\na c 0.25\na b 0.5\nb c -0.3\n",  # a repeat with the same score
    ],
)
def test_scores_come_in_the_order_of_the_list(tmp_path: Path, text: str) -> None:
    np.testing.assert_array_equal(read_scores(write(tmp_path, text), TRIALS), [0.5, 0.25, -0.3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_written_scores_read_back_bit_for_bit(tmp_path: Path, dtype: type) -> None:
    scores = np.random.default_rng(0).normal(size=3).astype(dtype)
    write_scores(tmp_path / "out", TRIALS, scores)
    trials, back = read_scored_trials(tmp_path / "out")
    assert (trials.enrol, trials.test) == (TRIALS.enrol, TRIALS.test)
    np.testing.assert_array_equal(trials.target, TRIALS.target)
    np.testing.assert_array_equal(back.astype(dtype), scores)
    np.testing.assert_array_equal(read_scores(tmp_path / "out", TRIALS).astype(dtype), scores)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "scores.txt: the file of scores is empty; valid lines: 'enrol test score'"),
        ("a b 0.5\na c\n", "scores.txt:2: 2 fields; valid on all lines"),
        ("a b\n", "scores.txt:1: 2 fields"),
        ("a b same\n", "scores.txt:1: 'same' is not a number"),
        ("a b 0.5\na c nan\nb c 1\n", "scores.txt:2: the score is nan; valid: finite numbers"),
        ("a b 0.5\na c -inf\nb c 1\n", "scores.txt:2: the score is -inf"),
        ("0.5\n0.2\n", "2 scores for 3 trials; a file without ids needs one score per trial"),
        ("a b 0.5\nb c 1\n", r"no score for 1 of 3 trials, first 'a c' \(trial 2\); add"),
        ("b a 0.5\na c 1\nb c 1\n", r"first 'a b' \(trial 1\) \(the file has the pair the other way round\)"),
        ("a b 0.5\na c 1\nb c 1\na b 0.6\n", "scores.txt:4: 'a b' has the score 0.6, but 0.5 in line 1"),
        ("a b 0.5 1\na c 1 0\nb c 1 0\na c 1 1\n", "scores.txt:4: 'a c' has the label 1, but 0 in line 2; keep"),
        ("a b 0.5 1\na c 1 1\nb c 1 1\n", "scores.txt:2: 'a c' has the label 1, but .* says 0; .* differ in 2 trials"),
        ("a b 0.5 same\n", "scores.txt:1: 'a b 0.5 same'; valid: 'enrol test score label', label 1 or 0, or target"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_scores(write(tmp_path, text), TRIALS)


def test_missing_files_and_files_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: the list cannot be read \(No such file"):
        read_scores(tmp_path / "none", TRIALS)
    with pytest.raises(UserError, match=r"scores.txt:1: 'a b 0.5'; valid: 'enrol test score label'"):
        read_scored_trials(write(tmp_path, "a b 0.5\n"))
    with pytest.raises(UserError, match="is empty"):
        read_scored_trials(write(tmp_path, "\n"))
