"""Files of the user's own: what is wrong with them is a sentence."""

import sys
import typing
from pathlib import Path

import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.python_file import run_python_file


def test_what_a_file_defines_can_be_had(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("ANSWER = 6 * 7\n")
    assert run_python_file(tmp_path / "mine.py", "loss").ANSWER == 42


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", None, r"No loss file /.*none\.py; give the path of a Python \(\.py\) file"),
        ("mine.txt", "", r"mine\.txt is not a Python \(\.py\) file, as a loss must be"),
        (
            "mine.py",
            "1 / 0",
            r"mine\.py cannot be read as a loss: ZeroDivisionError: division by zero\. It arose in .*mine\.py, line 1",
        ),
        (
            "mine.py",
            "import sys\nsys.exit(3)",
            r"mine\.py ends the program when it is read as a loss \(SystemExit: 3\)",
        ),
        ("mine.py", "if", r"mine\.py cannot be read as a loss: SyntaxError: invalid syntax"),
        (
            "mine.py",
            "from mqmha_jax.errors import UserError\nraise UserError('The margin is too large.')",
            r"mine\.py: The margin is too large\.",
        ),
    ],
)
@pytest.mark.parametrize("folder", ["absolute", "relative"])
def test_a_file_that_fails_is_named_with_its_error(
    name: str, text: str | None, message: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        run_python_file(tmp_path / name if folder == "absolute" else Path(name), "loss")


def test_a_file_imports_its_neighbours_and_not_those_of_another_folder(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_layers.py").write_text(f"WIDTH = {folder!r}\n")
        (tmp_path / folder / "config.py").write_text("from my_layers import WIDTH\n")
    path_before = list(sys.path)
    assert run_python_file(tmp_path / "one" / "config.py", "configuration").WIDTH == "one"
    assert run_python_file(tmp_path / "two" / "config.py", "configuration").WIDTH == "two"
    (tmp_path / "two" / "my_layers.py").write_text("WIDTH = 'edited'\n")
    assert run_python_file(tmp_path / "two" / "config.py", "configuration").WIDTH == "edited"
    assert sys.path == path_before


def test_a_neighbouring_package_is_imported_and_an_installed_one_stays(tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "__init__.py").write_text("")
    (tmp_path / "layers" / "attention.py").write_text("HEADS = 4\n")
    (tmp_path / "config.py").write_text("import this\nfrom layers.attention import HEADS\n")
    run_python_file(tmp_path / "config.py", "configuration")
    installed = sys.modules["this"]
    run_python_file(tmp_path / "config.py", "configuration")
    assert sys.modules["this"] is installed


def test_annotations_of_a_class_in_a_file_are_found(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nclass Mine:\n    depth: Depth = 3\nDepth = int\n"
    (tmp_path / "mine.py").write_text(text)
    assert typing.get_type_hints(run_python_file(tmp_path / "mine.py", "pooling").Mine) == {"depth": int}
