"""A run is data: code that it brings along runs only for who trained with it, or where it is allowed."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from mqmha_jax.config_io import load_config
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_json, write_sealed_json
from mqmha_jax.own_code.contents import hash_code
from mqmha_jax.own_code.copies import copy_code, locate_code
from mqmha_jax.own_code.names import code_names
from mqmha_jax.own_code.trust import code_allowed, trust_code

SOURCE = "import helper\nRAN = helper.note()\ndef build(): return 'built'\n"
HELPER = "from pathlib import Path\ndef note():\n    (Path(__file__).parent.parent / 'ran').touch()\n"


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A configuration that names own.py, which imports helper.py; the user trusts nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own.py").write_text(SOURCE)
    (folder / "helper.py").write_text(HELPER)
    (folder / "other.py").write_text("raise SystemExit\n")
    return {"model": {"pooling": {"name": f"{folder / 'own.py'}:build", "options": {}}}, "loss": {"name": "am"}}


@pytest.fixture
def run(values: dict[str, Any], tmp_path: Path) -> Path:
    """The directory of a run that was trained with it."""
    (tmp_path / "run").mkdir()
    copy_code(values, tmp_path / "run")
    return tmp_path / "run"


def forget(tmp_path: Path) -> None:
    """As on another machine, or for another user."""
    shutil.rmtree(tmp_path / "state")


def copied(run: Path) -> Path:
    return next((run / "code").glob("*/own.py"))


def test_code_is_found_wherever_a_part_is_named(values: dict[str, Any]) -> None:
    assert code_names({**values, "pairs": [{"name": "p.py:f"}, {"name": "ge2e"}]})[1:] == ["p.py:f"]


def test_a_run_holds_the_file_and_the_neighbours_that_it_imports(run: Path) -> None:
    assert sorted(path.name for path in copied(run).parent.iterdir()) == ["helper.py", "own.py"]
    assert copied(run).read_text() == SOURCE


def test_who_trained_with_the_code_runs_the_copy_from_any_folder(
    run: Path, values: dict[str, Any], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "mine")
    run = run.rename(tmp_path / "elsewhere")
    located = locate_code(values, run)
    assert located["model"]["pooling"]["name"] == f"{copied(run)}:build"
    assert located["loss"] == values["loss"]


def test_code_of_a_received_run_needs_to_be_allowed_and_is_named(
    run: Path, values: dict[str, Any], tmp_path: Path
) -> None:
    forget(tmp_path)
    with pytest.raises(UserError) as error:
        locate_code(values, run)
    assert str(error.value).startswith(f"{run} runs code, build in {copied(run)}, that you have not trained with")
    assert "add --allow-code" in str(error.value)
    with code_allowed(False), pytest.raises(UserError, match="add --allow-code"):
        locate_code(values, run)
    with code_allowed():
        assert locate_code(values, run) != values


def test_another_name_in_a_trusted_file_is_not_trusted(run: Path, values: dict[str, Any]) -> None:
    values["model"]["pooling"]["name"] = values["model"]["pooling"]["name"].replace(":build", ":Path")
    with pytest.raises(UserError, match="runs code, Path in"):
        locate_code(values, run)


def test_a_file_of_the_system_is_not_trusted_because_it_is_there(tmp_path: Path) -> None:
    name = f"{Path(shutil.__file__).with_name('os.py')}:system"
    values = {"model": {"encoder": {"name": name, "options": {"command": f"touch {tmp_path / 'harm'}"}}}}
    for allowed in (None, tmp_path):
        with pytest.raises(UserError, match=r"runs code, system in .*os\.py, that you have not trained with"):
            locate_code(values, allowed or tmp_path)
    write_sealed_json(
        tmp_path / "code" / "code.json", {"hashes": {name[:-7]: hash_code(values)[name[:-7]]}, "files": {}}
    )
    with pytest.raises(UserError, match="runs code, system in"):
        locate_code(values, tmp_path)


def test_a_copy_that_changed_is_refused_by_name_even_where_code_is_allowed(run: Path, values: dict[str, Any]) -> None:
    path = copied(run)
    path.write_text(SOURCE + "\n")
    with code_allowed(), pytest.raises(UserError, match=r"own\.py is missing or differs from what the run was trained"):
        locate_code(values, run)
    path.write_text(SOURCE)
    (path.parent / "__pycache__").mkdir()
    (path.parent / "__pycache__" / "own.cpython-311.pyc").write_bytes(b"other code")
    with pytest.raises(UserError, match=r"own\.cpython-311\.pyc does not belong to the code .* Delete it\."):
        locate_code(values, run)


def test_a_change_after_the_training_is_named(
    run: Path, values: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run is used as it was trained; it cannot be trained on with other code."""
    (tmp_path / "mine" / "helper.py").write_text(HELPER + "\n")
    locate_code(values, run)
    assert f"{tmp_path / 'mine' / 'own.py'} changed after the training; its copy" in caplog.text
    with pytest.raises(
        UserError, match=r"own\.py, or a file that it imports, changed since this run started\. Restore"
    ):
        copy_code(values, run)


def test_a_run_without_copies_needs_to_be_allowed(run: Path, values: dict[str, Any]) -> None:
    """Nothing vouches for the files that lie beside its code."""
    shutil.rmtree(run / "code")
    with pytest.raises(UserError, match=r"runs code, build in .*own\.py.*add --allow-code"):
        locate_code(values, run)
    with code_allowed():
        assert locate_code(values, run) == values


def test_an_edited_copy_is_refused_although_the_sender_sealed_its_list_again(run: Path, values: dict[str, Any]) -> None:
    path, folder = run / "code" / "code.json", copied(run).parent
    listed = read_json(path, dict, advice="")
    del listed["content_sha256"]
    evil = SOURCE + "print('evil')\n"
    copied(run).write_text(evil)
    listed["files"][f"{folder.name}/own.py"] = hashlib.sha256(evil.encode()).hexdigest()
    write_sealed_json(path, listed)
    with pytest.raises(UserError, match=f"{folder.name} differs from what the run was trained with"):
        locate_code(values, run)
    copied(run).write_text(SOURCE)
    (folder / "json").symlink_to(run)  # importable, and no file
    listed["files"][f"{folder.name}/own.py"] = hashlib.sha256(SOURCE.encode()).hexdigest()
    write_sealed_json(path, listed)
    with pytest.raises(UserError, match="json is a link; a copy"):
        locate_code(values, run)


def test_a_list_without_its_hashes_is_a_sentence(run: Path, values: dict[str, Any]) -> None:
    write_sealed_json(run / "code" / "code.json", {"files": {}})
    with pytest.raises(UserError, match=r"code\.json is incomplete: it has no hashes\. Restore"):
        locate_code(values, run)


@pytest.mark.parametrize("name", ["helper.cpython-311-x86_64-linux-gnu.so", "helper.pyc", "spaces/inner.py"])
def test_all_that_the_code_imports_is_copied_and_part_of_the_hash(
    name: str, values: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    (folder / "own.py").write_text("import helper, spaces.inner, wave\n")
    (folder / "wave").mkdir()  # results, say: the standard library's wave.py is imported
    (folder / "wave" / "result.py").touch()
    (folder / name).parent.mkdir(exist_ok=True)
    before = hash_code(values)
    (folder / name).write_bytes(b"\0 compiled")
    assert hash_code(values) != before
    copy_code(values, tmp_path / "run")
    assert (copied(tmp_path / "run").parent / name).read_bytes() == b"\0 compiled"
    assert not (copied(tmp_path / "run").parent / "wave").exists()
    assert locate_code(values, tmp_path / "run") != values


def test_a_resume_leaves_equal_copies_and_mends_a_broken_one(run: Path, values: dict[str, Any]) -> None:
    helper = copied(run).with_name("helper.py")
    helper.write_text("half of")
    before = copied(run).stat().st_ino, helper.stat().st_ino
    copy_code(values, run)
    assert copied(run).stat().st_ino == before[0]
    assert helper.read_text() == HELPER


def test_copies_that_cannot_be_written_are_a_sentence(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "code").touch()  # a file where the folder belongs
    with pytest.raises(UserError, match=r"own\.py cannot be written|helper\.py cannot be written"):
        copy_code(values, tmp_path / "run")


def test_a_configuration_in_json_is_data_too(values: dict[str, Any], tmp_path: Path) -> None:
    import json

    path = tmp_path / "received.json"
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"received\.json runs code, build in .*own\.py"):
        load_config(path)
    with code_allowed():
        assert load_config(path).model.pooling.name == values["model"]["pooling"]["name"]
    trust_code(values)
    assert load_config(path).model.pooling.name == values["model"]["pooling"]["name"]
    shutil.copytree(tmp_path / "mine", tmp_path / "received")  # equal, but other files may lie beside it
    path.write_text(json.dumps(values).replace("/mine/", "/received/"))
    with pytest.raises(UserError, match=r"runs code, build in .*received/own\.py"):
        load_config(path)
    assert not list(tmp_path.rglob("ran"))


def test_a_home_that_cannot_be_written_is_a_warning(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    (tmp_path / "run").mkdir()
    copy_code(values, tmp_path / "run")
    assert "this run has your own code and will need --allow-code" in caplog.text
    assert read_json(tmp_path / "run" / "code" / "code.json", dict, advice="")["hashes"]
