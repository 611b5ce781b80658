"""Trial and speaker lists: the three forms, and the message for each kind of damage."""

import numpy as np
import pytest

from mqmha_jax.data.lists import check_trials, number_names, read_trials, read_utt2spk, trial_positions
from mqmha_jax.errors import UserError
from mqmha_jax.types import Trials


@pytest.fixture
def write(tmp_path):
    def write_list(text, encoding="utf-8"):
        path = tmp_path / "list.txt"
        path.write_bytes(text.encode(encoding))
        return path

    return write_list


def trials_of(*pairs):
    enrol, test, target = zip(*pairs, strict=True)
    return Trials(enrol, test, np.array(target))


@pytest.mark.parametrize(
    "text",
    [
        "1 a/x.wav b/y.wav\n0 a/x.wav c\n",  # VoxCeleb
        "a/x.wav b/y.wav target\na/x.wav c nontarget\n",  # Kaldi
        "a/x.wav b/y.wav 1\na/x.wav c 0\n",  # CN-Celeb
        "1\ta/x.wav  b/y.wav\r\n\r\n0 a/x.wav\tc",  # tabs, DOS line ends, a blank line, no final newline
    ],
)
def test_forms(write, text):
    trials = read_trials(write(text))
    assert trials.enrol == ("a/x.wav", "a/x.wav")
    assert trials.test == ("b/y.wav", "c")
    np.testing.assert_array_equal(trials.target, [True, False])
    assert trials.enrol[0] is trials.enrol[1]  # one string object, or a long list would fill the memory


def test_kaldi_speakers_may_have_the_names_of_labels(write):
    trials = read_trials(write("1 utt5 target\n0 utt6 nontarget\n"))
    assert trials.enrol == ("1", "0")
    np.testing.assert_array_equal(trials.target, [True, False])


def test_real_lists(speech_dir):
    trials = read_trials(speech_dir / "lists" / "trials_libri10.txt")
    assert (len(trials.enrol), np.count_nonzero(trials.target)) == (4950, 450)
    check_trials(trials, {*trials.enrol, *trials.test})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"list.txt: the trial list is empty; valid lines: '1 enrol test'"),
        ("\n  \n", "is empty"),
        ("1 a b\n0 a\n", r"list.txt:2: 2 fields, but a trial has three; valid: .*'enrol test target'"),
        ("1,a,b\n", "list.txt:1: 1 fields, but"),
        ("same a b\n", "list.txt:1: no label among 'same a b'; valid"),
        ("1 a b\n0 a c\n2 a d\n", r"list.txt:3: no label \(1 or 0\) in field 1"),
        ("a b target\na c 0\n", r"list.txt:2: no label \(target or nontarget\) in field 3.*same form"),
    ],
)
def test_damaged_trial_lists_are_refused(write, text, message):
    with pytest.raises(UserError, match=message):
        read_trials(write(text))


def test_files_that_are_not_lists_are_refused(write, tmp_path):
    with pytest.raises(UserError, match=r"missing.txt: the list cannot be read \(No such file"):
        read_trials(tmp_path / "missing.txt")
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        read_trials(write("1 ä b\n", "latin-1"))


def test_utt2spk(write):
    assert read_utt2spk(write("u1 anna\nu2 anna\nu3 bo\n")) == {"u1": "anna", "u2": "anna", "u3": "bo"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.txt: the list is empty; valid lines: 'utterance speaker'"),
        ("u1 anna\nu2\n", "list.txt:2: 1 fields; valid: 'utterance speaker'"),
        ("u1 anna\nu1 bo\n", "list.txt:2: utterance 'u1' is listed twice"),
    ],
)
def test_damaged_utt2spk_is_refused(write, text, message):
    with pytest.raises(UserError, match=message):
        read_utt2spk(write(text))


def test_positions():
    enrol, test = trial_positions(trials_of(("b", "a", True), ("a", "c", False)), ["a", "b", "c"])
    np.testing.assert_array_equal(enrol, [1, 0])
    np.testing.assert_array_equal(test, [0, 2])


def test_positions_of_models_are_apart_from_those_of_utterances():
    trials = trials_of(("a", "a", True), ("c", "b", False))
    enrol, test = trial_positions(trials, ["a", "b"], models=["c", "a"])
    np.testing.assert_array_equal(enrol, [1, 0])
    np.testing.assert_array_equal(test, [0, 1])
    with pytest.raises(UserError, match=r"1 enrolment sides, 2 test sides and 2 labels"):
        trial_positions(trials._replace(enrol=("a",)), ["a", "b"], models=["c", "a"])


def test_unknown_utterances_are_named_with_the_nearest_known_one():
    trials = trials_of(
        ("id1/a.wav", "id1/b.wav", True), ("id1/aa.wav", "id2/c.wav", False), ("x", "y", False), ("x", "z", False)
    )
    with pytest.raises(UserError) as error:
        check_trials(trials, ["id1/a.wav", "id1/b.wav", "id2/c.wav"], name="dev.txt")
    message = str(error.value)
    assert (
        "dev.txt: its trials name 4 unknown utterances: 'id1/aa.wav' (trial 2), 'x' (trial 3), 'y' (trial 3) and more"
        in message
    )
    assert "nearest to the first is 'id1/a.wav'" in message
    assert "ids of the 3 utterances at hand" in message


@pytest.mark.parametrize(
    ("target", "message"), [(True, r"only target trials \(2\).*add nontarget"), (False, "only nontarget")]
)
def test_one_class_lists_are_refused(target, message):
    with pytest.raises(UserError, match=message):
        check_trials(trials_of(("a", "b", target), ("a", "c", target)), "abc")


def test_repeated_and_self_trials_are_reported():
    good = [("a", "b", True), ("b", "a", True), ("a", "c", False)]
    assert check_trials(trials_of(*good), "abc") == []  # the other order is another trial
    (repeated,) = check_trials(trials_of(*good, good[0], good[0]), "abc", name="dev")
    assert repeated.startswith("dev: 2 of 5 trials repeat an earlier one, first 'a b' (number 4); each counts as often")
    (itself,) = check_trials(trials_of(*good, ("c", "c", True)), "abc", name="dev")
    assert itself == "dev: an utterance is compared with itself in 1 trial."


@pytest.mark.parametrize("again", [("a", "b", False), ("b", "a", False)])
def test_two_labels_for_one_pair_are_refused(again):
    message = (
        rf"dev: trial '{again[0]} {again[1]}' \(number 3\) is labelled nontarget, but trial 1 has the same pair and is "
        r"labelled target \(1 such trials\)"
    )
    with pytest.raises(UserError, match=message):
        check_trials(trials_of(("a", "b", True), ("a", "c", False), again), "abc", name="dev")


def test_models_and_utterances_have_separate_names():
    trials = trials_of(("a", "b", True), ("b", "a", False))  # model a and utterance b, model b and utterance a
    assert check_trials(trials, "ab", known_models="ab") == []
    with pytest.raises(UserError, match=r"dev, enrolment sides: its trials name 1 unknown utterance: 'b' \(trial 2\)"):
        check_trials(trials, "ab", known_models="a", name="dev")
    with pytest.raises(UserError, match="dev, test sides: its trials name 1 unknown utterance"):
        check_trials(trials, "b", known_models="ab", name="dev")


def test_names_are_numbered_alphabetically():
    names, (enrol, test) = number_names(("b", "a", "b"), ("c", "c", "a"))
    assert names == ("a", "b", "c")
    assert enrol.tolist() == [1, 0, 1]
    assert test.tolist() == [2, 2, 0]
