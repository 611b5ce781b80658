"""JSON files: what is wrong is a sentence with the path; a sealed file is what was written, or refused."""

from pathlib import Path

import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.json_file import parse_json, read_json, read_sealed_json, require_fields, write_sealed_json
from tests.support.flips import flip_each, refusal_of


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"it\.json cannot be read \(No such file or directory\)\. Try again\."),
        (b"[" * 100_000, r"it\.json is not valid: its JSON is nested too deeply\. Try again\."),
        (b'{"a":' * 100_000, r"it\.json is not valid: its JSON is nested too deeply\. Try again\."),
        (b"{", r"it\.json is not valid JSON \(.*line 1 column 2.*\)\. Try again\."),
        (b"\xff\xfe", r"it\.json is not valid JSON \(.*codec can't decode.*\)\. Try again\."),
        (b"9" * 10_000, r"it\.json is not valid JSON \(Exceeds the limit.*\)\. Try again\."),
        (b"[1]", r"it\.json holds a list \[\.\.\.\], not an object \{\.\.\.\}\. Try again\."),
        (b"null", r"it\.json holds nothing \(null\), not an object"),
        (b"true", r"it\.json holds a bool, not an object"),
    ],
)
def test_what_is_wrong_with_a_file_is_a_sentence(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(path, dict, advice="Try again.")


def test_what_is_right_is_read(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')  # with the byte-order mark of some editors
    assert read_json(tmp_path / "it.json", dict, advice="") == {"a": 1}
    assert parse_json("2.5", float, where="line 1", advice="") == 2.5
    with pytest.raises(UserError, match=r"line 1 holds a bool, not a number"):
        parse_json("true", float, where="line 1", advice="")


def test_a_flipped_bit_of_a_sealed_file_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    value = {"names": ["a", "b\u2028c", "ü"], "step": 7, "rate": 0.1, "none": None, "inner": {"x": [1, 2]}}
    write_sealed_json(path, value)

    def read() -> None:
        assert read_sealed_json(path, advice="Write it again.") == value

    refusals = [refusal_of(read) for _ in flip_each(path)]
    assert read_sealed_json(path, advice="") == value
    refused = [refusal for refusal in refusals if refusal]
    assert len(refused) > 0.8 * len(refusals)  # the rest is white space
    assert all(str(path) in refusal and refusal.endswith("Write it again.") for refusal in refused)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "it is incomplete: it has no step"),
        ({"step": True}, "its step has another"),
        ({"step": 1, "files": {"a": [1, "x", 2]}}, "its files has another"),
        ({"step": 1, "files": {"a": [1, 2]}}, "its files has another"),
        ({"step": 1, "files": {}, "eer": "0.1"}, "its eer has another"),
    ],
)
def test_a_sealed_object_that_is_incomplete_is_a_sentence(value: dict[str, object], message: str) -> None:
    fields = {"step": int, "files": dict[str, tuple[int, str]], "eer": float | None}
    with pytest.raises(UserError, match=message.removeprefix("it ")):
        require_fields(value, fields, where="it", advice="")
    require_fields({"step": 1, "files": {"a": [1, "x"]}, "eer": None}, fields, where="it", advice="")


def test_an_object_without_its_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_text('{"step": 7}')
    with pytest.raises(UserError, match=r"it\.json differs from what was written: its checksum does not match"):
        read_sealed_json(tmp_path / "it.json", advice="")
