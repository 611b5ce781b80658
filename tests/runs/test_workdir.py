"""What describes a run: the speakers in their order, whatever their names are, and the data that they belong to."""

import re
import shutil
from pathlib import Path

import pytest

from mqmha_jax.config_io import with_overrides
from mqmha_jax.data.ids import hash_names
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import write_sealed_json
from mqmha_jax.runs.workdir import (
    claim_workdir,
    lock_workdir,
    read_config,
    read_runnable_config,
    read_speakers,
)
from tests.support.tiny import tiny_config

# Each of these shifted all later speakers by a row when the list was text.
NAMES = ["plain", "two\u2028parts", "next\x85line", "line\nbreak", "form\x0cfeed", "\u00e9\u0301", " ", "last"]


def data_of(names: list[str]) -> dict[str, object]:
    return {"fingerprint": "f", "num_speakers": len(names), "speakers": hash_names(names)}


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    with claim_workdir(tmp_path, tiny_config({}), data_of(NAMES), NAMES):
        pass
    return tmp_path


def test_names_of_any_kind_keep_their_places(workdir: Path) -> None:
    assert read_speakers(workdir) == NAMES


def test_a_resume_writes_the_same_list(workdir: Path) -> None:
    before = (workdir / "speakers.json").read_bytes()
    with lock_workdir(workdir, tiny_config({}), data_of(NAMES), NAMES):
        assert (workdir / "speakers.json").read_bytes() == before


def test_another_dev_list_is_refused(tmp_path: Path) -> None:
    config, data = tiny_config({}), data_of(NAMES)

    def claim(**dev: str) -> None:
        with claim_workdir(tmp_path, config, {**data, **dev}, NAMES):
            pass

    claim()
    claim(dev="a")  # may come later
    claim()  # and be left out for a while
    claim(dev="a")
    with pytest.raises(UserError, match=r"measured its EERs on another dev list, .*'mqmha evaluate .*' measures"):
        claim(dev="b")


def test_an_edited_list_and_one_of_another_run_are_refused(workdir: Path) -> None:
    path = workdir / "speakers.json"
    text = path.read_text()
    path.write_text(text.replace("plain", "plane"))
    with pytest.raises(UserError, match=r"speakers\.json differs from what was written: its checksum.*Restore it"):
        read_speakers(workdir)
    write_sealed_json(path, {"speakers": NAMES[1:]})
    with pytest.raises(UserError, match=r"speakers\.json holds 7 names for the 8 speakers of the run\. Restore it"):
        read_speakers(workdir)
    write_sealed_json(path, {"speakers": NAMES[::-1]})
    with pytest.raises(UserError, match=r"speakers\.json holds other names than the run was trained with"):
        read_speakers(workdir)
    write_sealed_json(path, {})
    with pytest.raises(UserError, match=r"speakers\.json is incomplete: it has no speakers\. Restore it from"):
        read_speakers(workdir)
    write_sealed_json(path, {"speakers": [1, 2]})
    with pytest.raises(UserError, match=r"speakers\.json is not valid: its speakers has another type"):
        read_speakers(workdir)


def test_a_run_of_an_earlier_version_is_read_and_its_names_are_counted(workdir: Path) -> None:
    from mqmha_jax.atomic import write_json

    names = ["a", "b c", "d\u2028e"]
    (workdir / "speakers.json").unlink()
    write_json(workdir / "data.json", data_of(names))
    (workdir / "speakers.txt").write_text("a\nb c\nd\u2028e\n", encoding="utf-8")
    assert read_speakers(workdir) == names
    (workdir / "speakers.txt").write_text("a\nb c\nd\ne\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"speakers\.txt holds 4 names for the 3 speakers of the run"):
        read_speakers(workdir)
    with lock_workdir(workdir, tiny_config({}), data_of(names), names):
        assert read_speakers(workdir) == names
        assert not (workdir / "speakers.txt").exists()


@pytest.mark.parametrize("first", [True, False])
def test_every_process_trusts_the_code_of_the_run_that_it_trains(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have another home."""
    (tmp_path / "own.py").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = with_overrides(tiny_config({}), [f"model.pooling={tmp_path / 'own.py'}:Pooling"])
    with lock_workdir(tmp_path / "run", config, data_of(NAMES), NAMES):
        pass
    shutil.rmtree(tmp_path / "state")
    monkeypatch.setattr("mqmha_jax.runs.workdir.is_first_process", lambda: first)
    with claim_workdir(tmp_path / "run", config, data_of(NAMES), NAMES):
        assert read_runnable_config(tmp_path / "run") != config


def test_a_start_that_is_refused_leaves_no_copies_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = with_overrides(tiny_config({}), [f"model.pooling={tmp_path / 'own.py'}:Pooling"])
    with (
        pytest.raises(UserError, match="refused"),
        claim_workdir(tmp_path / "run", config, data_of(NAMES), NAMES),
    ):
        raise UserError("refused")
    (tmp_path / "own.py").write_text("edited = True\n")
    with claim_workdir(tmp_path / "run", config, data_of(NAMES), NAMES):
        assert next((tmp_path / "run" / "code").glob("*/own.py")).read_text() == "edited = True\n"


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("metrics.jsonl", '{"step": 1, "kind": "train"}\n', True),
        ("metrics.jsonl", '{"step": 0, "kind": "dev"}\n', False),  # of the untrained network
        ("checkpoints/4/manifest.json", "{}\n", True),
    ],
)
@pytest.mark.parametrize("error", [UserError, RuntimeError])
def test_a_run_that_has_trained_keeps_its_directory_when_it_fails(
    name: str, content: str, kept: bool, error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "run" / name

    def fail_late() -> None:
        with claim_workdir(tmp_path / "run", tiny_config({}), data_of(NAMES), NAMES):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            raise error("full")

    with pytest.raises(error, match="full"):
        fail_late()
    assert (tmp_path / "run" / "config.json").exists() == kept


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (('"momentum": 0.9', '"momentum": 1.0'), r"optimizer\.momentum=1\.0: input should be less than 1"),
        (('"model": 1', '"model": 0'), r"mesh\.model=0 gives the work to no device"),
        (('"frame_shift_ms": 10.0', '"frame_shift_ms": 0.0'), r"fbank\.frame_shift_ms=0\.0: .* greater than 0"),
    ],
)
def test_a_value_that_an_earlier_version_took_is_a_sentence_with_its_file(
    written: tuple[str, str], message: str, workdir: Path
) -> None:
    path = workdir / "config.json"
    before = path.read_text()
    path.write_text(before.replace(*written))
    assert path.read_text() != before
    for read in (read_config, read_runnable_config):
        with pytest.raises(UserError, match=rf"{re.escape(str(path))}: .*{message}"):
            read(workdir)


@pytest.mark.parametrize("name", ["config.json", "data.json", "speakers.json"])
def test_a_file_that_is_deep_or_no_object_is_a_sentence(name: str, workdir: Path) -> None:
    for content in ("[" * 100_000, "[]", "{", ""):
        (workdir / name).write_text(content)
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            _ = read_config(workdir), read_speakers(workdir)


def test_damaged_data_is_refused_before_a_resume_overwrites_it(workdir: Path) -> None:
    path = workdir / "data.json"
    path.write_text(path.read_text().replace('"f"', '"g"'))
    with pytest.raises(UserError, match=r"data\.json differs from what was written.*give another --workdir"):
        lock_workdir(workdir, tiny_config({}), data_of(NAMES), NAMES)
