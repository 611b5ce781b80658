"""Files of the user's own: what is wrong with them is a sentence."""

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
        ("none.py", None, r"No loss file /.*none\.py; give the path of a Python \(\.py\) file from where you are"),
        ("mine.txt", "", r"mine\.txt is no Python \(\.py\) file, as a loss has to be"),
        ("mine.py", "1 / 0", r"mine\.py can not be read as a loss: ZeroDivisionError: division by zero"),
        ("mine.py", "if", r"mine\.py can not be read as a loss: SyntaxError: invalid syntax"),
        (
            "mine.py",
            "from mqmha_jax.errors import UserError\nraise UserError('The margin is too large.')",
            r"mine\.py: The margin is too large\.",
        ),
    ],
)
def test_a_file_that_fails_is_named_with_its_error(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        run_python_file(tmp_path / name, "loss")
