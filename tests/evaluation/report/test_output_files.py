"""An evaluation replaces its own files alone: never the user's, and never what it reads."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mqmha_jax.cli import main
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.report import tables
from mqmha_jax.evaluation.report.output_files import check_output
from mqmha_jax.evaluation.report.tables import write_numbers
from tests.evaluation.report.test_tables import evaluated, evaluation


@pytest.mark.parametrize(
    "name", ["metrics.json", "utt2spk.txt", "results.txt", "report.html", "scores_eval_cosine.txt"]
)
def test_files_of_the_user_are_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"accuracy": 1}')
    with pytest.raises(UserError, match=rf"already holds {name}, which the evaluation would .*Give another --output"):
        check_output(tmp_path, lists=["eval"])


def test_lists_whose_results_would_have_one_name_are_refused_before_the_work(tmp_path: Path) -> None:
    check_output(tmp_path, lists=["会", "日", "a-b"])
    with pytest.raises(UserError, match=r"trial lists 'a b' and 'a,b' would have the same file names; rename one"):
        check_output(tmp_path, lists=["a b", "a,b"])


def test_checking_leaves_no_directory_behind(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty")
    assert (tmp_path / "empty").is_dir()


def test_other_files_in_the_directory_may_stay(tmp_path: Path) -> None:
    for name in ("notes.txt", "scores_other_cosine.txt", "results_other.png"):
        (tmp_path / name).write_text("the user's own")
    check_output(tmp_path, lists=["eval"])


def test_all_files_in_the_way_are_named(tmp_path: Path) -> None:
    for name in ("results.txt", "utt2spk.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"results\.txt and 1 more, .*move the files away: results\.txt, utt2spk\.txt"):
        check_output(tmp_path)


@pytest.mark.parametrize("content", [{"format_version": 1, "lists": {}, "content_sha256": "edited"}, None])
def test_evaluations_of_any_version_are_replaced(tmp_path: Path, content: dict[str, object] | None) -> None:
    if content is None:
        write_numbers(tmp_path, evaluation(evaluated("eval")))
    else:
        (tmp_path / "metrics.json").write_text(json.dumps(content))
    (tmp_path / "results.txt").touch()
    check_output(tmp_path, lists=["eval"])


def test_an_evaluation_that_was_killed_while_it_wrote_can_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(path: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "hash_file", kill)
    with pytest.raises(KeyboardInterrupt):
        write_numbers(tmp_path, evaluation(evaluated("eval")))
    assert (tmp_path / "utt2spk.txt").exists()
    check_output(tmp_path, lists=["eval"])


@pytest.mark.parametrize("link", [False, True])
def test_files_of_an_earlier_evaluation_are_not_removed_while_they_are_read(tmp_path: Path, link: bool) -> None:
    output = tmp_path / "out"
    write_numbers(output, evaluation(evaluated("eval")))
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    given = output / "scores_eval_cosine.txt"
    if link:
        (tmp_path / "link.txt").symlink_to(given)
        given = tmp_path / "link.txt"
    (tmp_path / "eval").write_text("1 a b\n0 a c\n")
    command = ("evaluate", "--scores", given, "--trials", tmp_path / "eval", "--output", output)
    result = CliRunner().invoke(main, [*map(str, command)])
    assert result.exit_code == 1
    assert f"{given} is an input, and the evaluation replaces or removes scores_eval_cosine.txt" in result.output
    assert "Give another --output." in result.output
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
