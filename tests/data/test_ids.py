"""All formats carry every id that the project accepts; it refuses any other by name."""

import csv
import io
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mqmha_jax.data.embedding_files import read_embeddings, write_embeddings
from mqmha_jax.data.ids import check_id, check_spellings, other_spelling, plain_id, quote_id, split_fields, split_first
from mqmha_jax.data.lists import read_models, read_trials, read_utt2spk, trial_positions, write_trials
from mqmha_jax.data.metadata import read_metadata, shard_metadata
from mqmha_jax.data.score_files import read_scored_trials, read_scores, write_scores
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards
from mqmha_jax.errors import UserError
from mqmha_jax.types import Embeddings, Trials
from tests.support.tiny import SPEC

AWKWARD = st.sampled_from(
    [" ", '"', "\\", "'", "/", ".", ",", "#", "[", "é", "e\u0301", "\u00a0", "\u3000", "😀", "-", "1"]
)
ACCEPTED = (
    st.lists(st.one_of(AWKWARD, st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])), min_size=1, max_size=8)
    .map("".join)
    .map(plain_id)
    .filter(lambda name: not name.isspace())
)


def looks(name: str) -> str:
    """What a reader of the name sees."""
    return plain_id(" ".join(unicodedata.normalize("NFC", name).split()))


EVERY_FORMAT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def names(tmp_path: Path) -> Path:
    return tmp_path / "names"


def as_trials(ids: list[str]) -> Trials:
    return Trials(tuple(ids), tuple(ids[::-1]), np.arange(len(ids)) % 2 == 0)


@EVERY_FORMAT
@given(ids=st.lists(ACCEPTED, min_size=2, max_size=4, unique=True))
def test_every_list_returns_the_ids(names: Path, ids: list[str]) -> None:
    for name in ids:
        check_id(name, "it")
    trials, scores = as_trials(ids), np.linspace(0, 1, len(ids))
    write_trials(names, trials)
    read = read_trials(names)
    assert (read.enrol, read.test, read.target.tolist()) == (trials.enrol, trials.test, trials.target.tolist())
    write_scores(names, trials, scores)
    again, read_back = read_scored_trials(names)
    assert (again.enrol, again.test) == (trials.enrol, trials.test)
    np.testing.assert_array_equal(read_back, scores)
    np.testing.assert_array_equal(read_scores(names, trials), scores)
    names.write_text("".join(f"{quote_id(name)} {quote_id(ids[0])}\n" for name in ids), encoding="utf-8")
    assert read_utt2spk(names) == dict.fromkeys(ids, ids[0])
    assert read_metadata(names).utt2spk == dict.fromkeys(ids, ids[0])
    names.write_text(" ".join(map(quote_id, ids)) + "\n", encoding="utf-8")
    assert read_models(names) == {ids[0]: tuple(ids[1:])}


@EVERY_FORMAT
@given(ids=st.lists(ACCEPTED, min_size=1, max_size=4, unique_by=looks))
def test_tables_return_the_ids(names: Path, ids: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("utterance", "speaker"), *((name, name) for name in ids)])
    names.write_text(text.getvalue(), encoding="utf-8")
    assert read_metadata(names).utt2spk == {name: name for name in ids}


@EVERY_FORMAT
@given(ids=st.lists(ACCEPTED, min_size=1, max_size=4, unique=True))
def test_embeddings_return_the_ids(tmp_path: Path, ids: list[str]) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(ids), 3)).astype(np.float32)
    write_embeddings(tmp_path / "e.npz", Embeddings(tuple(ids), vectors))
    assert read_embeddings(tmp_path / "e.npz").ids == tuple(ids)
    content, table = b"", []
    for name, vector in zip(ids, vectors, strict=True):
        content += quote_id(name).encode() + b" "
        table.append(f"{quote_id(name)} {tmp_path}/e.ark:{len(content)}\n")
        content += b"\0BFV \4" + struct.pack("<i", vector.size) + vector.tobytes()
    (tmp_path / "e.ark").write_bytes(content)
    (tmp_path / "e.scp").write_text("".join(table), encoding="utf-8")
    for kind in ("ark", "scp"):
        read = read_embeddings(tmp_path / f"e.{kind}")
        assert read.ids == tuple(ids)
        np.testing.assert_array_equal(read.vectors, vectors)


@settings(EVERY_FORMAT, max_examples=15)
@given(ids=st.lists(ACCEPTED, min_size=1, max_size=3, unique=True))
def test_shards_return_the_ids(tmp_path: Path, ids: list[str]) -> None:
    assume(not any("@" in name or "#" in name for name in ids))  # marks of versions
    directory = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    frames = np.zeros((20, SPEC.num_mel_bins), np.float16)
    write_shards(directory, [UtteranceFbank(name, name, frames) for name in ids], spec=SPEC, provenance={})
    shards = open_shards(directory)
    assert tuple(shards.utterances) == tuple(ids)
    assert shard_metadata(shards).utt2spk == {name: name for name in ids}


@given(st.lists(ACCEPTED, min_size=1, max_size=4))
def test_a_line_splits_into_what_was_joined(fields: list[str]) -> None:
    line = " ".join(map(quote_id, fields))
    assert split_fields(line) == fields
    name, rest = split_first(line)
    assert name == fields[0]
    assert split_fields(rest) == fields[1:]


def test_foreign_quotation_marks_stay() -> None:
    """Lists of other programs do not quote: a mark that opens no JSON string belongs to its field."""
    assert split_fields('1 a"b "c\n') == ["1", 'a"b', '"c']
    assert split_fields('1 "a b" 12"\t"" "\\q" x') == ["1", "a b", '12"', "", '"\\q"', "x"]
    assert split_fields("  ") == []
    assert split_first("") == ("", "")


@pytest.mark.parametrize(
    "text", ["", " ", "\u3000 ", "a\nb", "a\tb", "a\x1b[31mb", "a\x85b", "a\u2028b", "a\x00", "a\udce9"]
)
def test_invalid_ids_are_refused(text: str) -> None:
    with pytest.raises(
        UserError, match=r"^The utterance (is empty|'.*is only white|'a.*has the character '.*Rename it)"
    ):
        check_id(text, "The utterance")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("./a/0.wav", "a/0.wav"),
        ("a//b/./c.wav", "a/b/c.wav"),
        ("/x//a.wav", "/x/a.wav"),
        ("../a.wav", "../a.wav"),
        ("a.b/c", "a.b/c"),
        ("gs://bucket//a", "gs://bucket//a"),
        ("./", "./"),
        ("a", "a"),
    ],
)
def test_a_path_has_one_plain_form(text: str, plain: str) -> None:
    assert plain_id(text) == plain
    assert plain_id(plain) == plain


def test_a_path_and_its_plain_form_are_one(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("1 ./a/0.wav a//1.wav\n0 a/0.wav b/2.wav\n")
    trials = read_trials(tmp_path / "list")
    assert trials.enrol == ("a/0.wav", "a/0.wav")
    trial_positions(trials, ["a/0.wav", "a/1.wav", "b/2.wav"])
    (tmp_path / "scores").write_text("a/0.wav ./a/1.wav 0.5\n./a/0.wav b/2.wav 0.25\n")
    np.testing.assert_array_equal(read_scores(tmp_path / "scores", trials), [0.5, 0.25])


def test_spellings_that_look_the_same_are_reported() -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    with pytest.raises(UserError, match=r"Two speakers are spelled differently and look the same: .*'caf\\xe9'.*u0301"):
        check_spellings(["x", composed, decomposed], "speakers")
    check_spellings(["x", composed], "speakers")
    assert other_spelling(composed, ["x", decomposed]) == decomposed
    assert other_spelling(composed, [composed]) is None
    with pytest.raises(UserError, match=r"known in another spelling that looks the same: 'cafe\\u0301' in"):
        trial_positions(as_trials([composed, "x"]), ["x", decomposed])


@pytest.mark.parametrize("other", ["Ada L ", " Ada L", "Ada  L", "Ada\u00a0L", "\u3000Ada L"])
def test_names_that_differ_in_blanks_look_the_same(tmp_path: Path, other: str) -> None:
    with pytest.raises(UserError, match=r"Two speakers are spelled differently and look the same: 'Ada L' and '"):
        check_spellings(["x", "Ada L", other], "speakers")
    check_spellings(["x", other, "AdaL"], "speakers")  # blanks are valid, and one is not none
    check_spellings(["y"], "speakers", known=["Ada L", other])
    assert other_spelling("Ada L", ["x", other]) == other
    (tmp_path / "facts.csv").write_text(f"utterance,speaker\na,Ada L\nb,{other}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"Two speakers in .*facts\.csv are spelled differently"):
        read_metadata(tmp_path / "facts.csv")


@pytest.mark.parametrize("line", ['1 a " "\n', '1 "" b\n', '1 a "\u3000"\n'])
def test_blank_fields_of_lists_are_refused(names: Path, line: str) -> None:
    names.write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match=r"names:1: the field .*(is empty|only white space); give it a name"):
        read_trials(names)


@pytest.mark.parametrize("text", ["1 a b\n0 a c\n", "a b target\na c nontarget\n"])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list"
    path.write_text(text, encoding="utf-8-sig")
    assert read_trials(path).enrol == ("a", "a")
    path.write_text("a b 0.5\na c 0.25\n", encoding="utf-8-sig")
    assert read_scores(path, read_trials_of("a b", "a c")).tolist() == [0.5, 0.25]
    path.write_text("a s1\nb s1\n", encoding="utf-8-sig")
    assert read_utt2spk(path) == {"a": "s1", "b": "s1"} == read_metadata(path).utt2spk


def read_trials_of(*pairs: str) -> Trials:
    enrol, test = zip(*(pair.split() for pair in pairs), strict=True)
    return Trials(enrol, test, np.ones(len(pairs), np.bool_))


def test_a_message_cannot_change_what_a_terminal_shows() -> None:
    message = str(UserError("\x1b[2Jevil\r\u202e.wav: é 😀 no such file.\nNext"))
    assert message == "\\x1b[2Jevil\\r\\u202e.wav: é 😀 no such file.\nNext"


ESCAPE = "a\x1b[31m"
REFUSED = r"the (field|utterance) 'a\\x1b\[31m' has the character '\\x1b' in it.* Rename it"


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_trials, f"1 b c\n0 {ESCAPE} b\n"),
        (read_utt2spk, f"b s\n{ESCAPE} s\n"),
        (read_utt2spk, f"b s\na {ESCAPE}\n"),
        (read_models, f"m b\n{ESCAPE} b\n"),
        (read_models, f"m b\nn {ESCAPE}\n"),
        (read_scored_trials, f"b c 0.5 1\nb {ESCAPE} 0.5 0\n"),
        (lambda path: read_scores(path, read_trials_of("b c")), f"b c 0.5\n{ESCAPE} c 0.5\n"),
        (read_metadata, f"utterance,speaker\n{ESCAPE},s\n"),
    ],
)
def test_lists_refuse_control_characters(names: Path, read: Callable[[Path], object], text: str) -> None:
    names.write_text(text)
    with pytest.raises(UserError, match=rf"names:2: {REFUSED}"):
        read(names)


def test_tables_and_embeddings_refuse_control_characters(tmp_path: Path, names: Path) -> None:
    names.write_text(f"utterance,speaker\nb,{ESCAPE}\n")
    with pytest.raises(UserError, match=r"names:2: speaker 'a\\x1b\[31m' has the character"):
        read_metadata(names)
    names.write_text(f"utterance,{ESCAPE}\nb,c\n")
    with pytest.raises(UserError, match=r"names:1: the column 'a\\x1b\[31m' has the character"):
        read_metadata(names)
    np.savez(tmp_path / "e.npz", ids=np.array([ESCAPE]), vectors=np.ones((1, 2), np.float32))
    with pytest.raises(UserError, match=rf"e\.npz: {REFUSED}"):
        read_embeddings(tmp_path / "e.npz")


def test_models_are_plain_before_they_are_compared(names: Path) -> None:
    names.write_text("./m ./a.wav b.wav\n")
    assert read_models(names) == {"m": ("a.wav", "b.wav")}
    for text, message in (("m ./a.wav a.wav\n", "has an utterance twice"), ("m a\n./m b\n", "'m' is listed twice")):
        names.write_text(text)
        with pytest.raises(UserError, match=message):
            read_models(names)
