"""Facts about utterances, from shards, tables and models, on both sides of a trial."""

from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.metadata import (
    Metadata,
    join_metadata,
    model_metadata,
    read_metadata,
    shard_metadata,
    trial_attributes,
)
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards
from mqmha_jax.errors import UserError
from mqmha_jax.types import Trials

TABLE = "utterance,speaker,session,snr_db\na,s1,x,10.5\nb,s1,y,3\nc,s2,x,20\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "facts.csv"
    path.write_text(text)
    return path


def test_table(tmp_path: Path) -> None:
    known = read_metadata(write(tmp_path, "\ufeff" + TABLE))
    assert known.utt2spk == {"a": "s1", "b": "s1", "c": "s2"}
    assert known.columns == {
        "session": {"a": "x", "b": "y", "c": "x"},
        "snr_db": {"a": "10.5", "b": "3", "c": "20"},
    }
    assert read_metadata(write(tmp_path, "path,session\na,1\nb,2\n")) == Metadata({}, {"session": {"a": "1", "b": "2"}})


@pytest.mark.parametrize(
    "text", ["utterance, speaker\na, s1\n", "utterance , speaker\na, s1\n", "utterance,speaker \na,s1\n"]
)
def test_blanks_in_the_header_do_not_count(tmp_path: Path, text: str) -> None:
    assert read_metadata(write(tmp_path, text)) == Metadata({"a": "s1"}, {})


def test_columns_without_a_name_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, "utterance,speaker,,room,\na,s,,x,\nb,t,note,y,\n")
    assert read_metadata(path) == Metadata({"a": "s", "b": "t"}, {"room": {"a": "x", "b": "y"}})


def test_utt2spk(tmp_path: Path) -> None:
    assert read_metadata(write(tmp_path, "a s1\nb s2\n")) == Metadata({"a": "s1", "b": "s2"}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,speaker\na,s\n", "facts.csv:1: no column utterance or path; the header is file,speaker"),
        ("utterance,speaker\na,s\na,t\n", "facts.csv:3: utterance 'a' is listed twice"),
        ("utterance,speaker\na\n", "facts.csv:2: the header has 2 columns, this line another number"),
        ("utterance,speaker\na,s,x\n", "facts.csv:2: the header has 2 columns"),
        ("utterance,speaker\n", "a header but no lines"),
        ("utterance,speaker, speaker\na,s,t\n", "facts.csv:1: two columns are called 'speaker'"),
        ("a s1 x\n", "facts.csv:1: 3 fields; valid: 'utterance speaker'"),
    ],
)
def test_damaged_metadata_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_metadata(write(tmp_path, text))
    with pytest.raises(UserError, match="the metadata cannot be read"):
        read_metadata(tmp_path / "none")


def test_an_empty_cell_is_no_speaker(tmp_path: Path) -> None:
    path = write(tmp_path, "utterance,speaker,session\na,,x\nb,,y\nc,s2,x\n")
    known = read_metadata(path)
    assert known.utt2spk == {"c": "s2"}
    assert known.columns["session"] == {"a": "x", "b": "y", "c": "x"}
    of_shards = Metadata({"a": "s1", "b": "s1", "c": "s1"}, {})
    assert join_metadata([of_shards, known]).utt2spk == {"a": "s1", "b": "s1", "c": "s2"}
    with pytest.raises(UserError, match=r"facts\.csv:2: utterance 'a' has no speaker\. Fill in the cell"):
        read_metadata(path, every_speaker=True)


@pytest.mark.parametrize("cell", ["unknown", "n/a", "3;5", "0", "-1", "nan", "inf"])
def test_seconds_that_are_no_positive_number_are_refused(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path, f"utterance,seconds\na,2\nb,{cell}\n")
    message = f"facts.csv:3: seconds is {cell!r}; valid: a positive number such as 3.5, or an empty cell"
    with pytest.raises(UserError, match=message):
        read_metadata(path)


def test_unknown_seconds_stay_those_of_the_shards_or_unknown(tmp_path: Path) -> None:
    known = read_metadata(write(tmp_path, "utterance,seconds\na,2\nb,\nc, \n"))
    assert known.columns == {"seconds": {"a": 2.0}}
    of_shards = Metadata({}, {"seconds": {"a": 1.5, "b": 0.5}})
    joined = join_metadata([of_shards, known])
    assert joined.columns == {"seconds": {"a": 2.0, "b": 0.5}}
    models = model_metadata(joined, {"m": ("a", "b"), "n": ("b", "c")})
    assert models.columns == {"seconds": {"m": 2.5}}  # not 0.5 for n, whose other utterance may be long


def test_blanks_around_a_value_do_not_count(tmp_path: Path) -> None:
    known = read_metadata(write(tmp_path, "utterance,speaker,session\na,s 1,x \nb,s 1, x\nc, s2, \n"))
    assert known == Metadata({"a": "s 1", "b": "s 1", "c": " s2"}, {"session": {"a": "x", "b": "x", "c": ""}})


def test_an_empty_cell_replaces_nothing(tmp_path: Path) -> None:
    of_shards = Metadata({}, {"session": {"a": "x", "b": "", "c": "z"}})
    known = read_metadata(write(tmp_path, "utterance,session\na,\nb,\nc,w\n"))
    assert join_metadata([of_shards, known]).columns == {"session": {"a": "x", "b": "", "c": "w"}}


def test_shards_give_speakers_columns_and_seconds(tmp_path: Path) -> None:
    frames = np.zeros((150, 8), np.float16)
    records = [
        UtteranceFbank("a", "s1", frames, {"seconds": "9.99", "room": "hall"}),
        UtteranceFbank("b", "s2", frames[:50]),
    ]
    write_shards(tmp_path / "shards", records, spec=FbankSpec(num_mel_bins=8), provenance={})
    known = shard_metadata(open_shards(tmp_path / "shards"))
    assert known.utt2spk == {"a": "s1", "b": "s2"}
    assert known.columns["seconds"] == pytest.approx({"a": 1.5, "b": 0.5})  # of the frames, not of the table
    assert known.columns["room"] == {"a": "hall", "b": ""}


def test_trials_get_the_columns_of_both_sides(tmp_path: Path) -> None:
    known = read_metadata(write(tmp_path, TABLE))
    known = join_metadata([known, Metadata({}, {"same": dict.fromkeys("abc", "x"), "partly": {"a": "x", "b": "y"}})])
    trials = Trials(("a", "b"), ("b", "c"), np.array([True, False]))
    attributes = trial_attributes(trials, known, known)
    assert attributes.keys() == {"session", "snr_db"}  # not columns with one value, or with missing values
    assert [attributes["session"].of(trial) for trial in (0, 1)] == [("x", "y"), ("y", "x")]
    # Numbers, because one has a decimal point.
    assert [attributes["snr_db"].of(trial) for trial in (0, 1)] == [(10.5, 3.0), (3.0, 20.0)]


def test_texts_that_differ_only_as_texts_stay_different(tmp_path: Path) -> None:
    known = read_metadata(write(tmp_path, "utterance,session\na,1.1\nb,1.10\nc,2.1\n"))
    trials = Trials(("a", "b"), ("b", "c"), np.array([True, False]))
    column = trial_attributes(trials, known, known)["session"]
    assert [column.of(trial) for trial in (0, 1)] == [("1.1", "1.10"), ("1.10", "2.1")]


def test_a_column_becomes_words_if_a_number_differs_within_a_model() -> None:
    known = Metadata({}, {"snr_db": {"a": 10.5, "b": 3.0, "c": 20.0}})
    models = model_metadata(known, {"m": ("a", "b"), "n": ("c",)})
    trials = Trials(("m", "n"), ("a", "b"), np.array([True, False]))
    column = trial_attributes(trials, models, known)["snr_db"]
    assert [column.of(trial) for trial in (0, 1)] == [("several", "10.5"), ("20.0", "3.0")]


def test_models_inherit_what_their_utterances_share(tmp_path: Path) -> None:
    known = read_metadata(write(tmp_path, TABLE))
    known = join_metadata([known, Metadata({}, {"seconds": {"a": 2.0, "b": 3.0, "c": 1.0}})])
    models = model_metadata(known, {"m": ("a", "b"), "n": ("c",)})
    assert models.utt2spk == {"m": "s1", "n": "s2"}
    assert models.columns["session"] == {"m": "several", "n": "x"}
    assert models.columns["seconds"] == {"m": 5.0, "n": 1.0}
    with pytest.raises(
        UserError, match="Model 'm' is enrolled with utterances of 's1' and 's2'; a model has one speaker"
    ):
        model_metadata(known, {"m": ("b", "c")})
