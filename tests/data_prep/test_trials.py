"""Trial lists for your own data."""

import tracemalloc
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from data_prep.trials import _draw_pairs, draw_trials, make_trials, write_trials
from mqmha_jax.cli_trials import make_trials as make_trials_command
from mqmha_jax.data.lists import read_trials
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards
from mqmha_jax.errors import UserError
from tests.support.tiny import SPEC

UTT2SPK = {f"{s}-{session}-{u}": s for s in "abcd" for session in "xy" for u in "123"}
UTT2SESSION = {utterance: utterance[:3] for utterance in UTT2SPK}


def test_targets_cross_sessions_and_nontargets_cross_speakers() -> None:
    trials = make_trials(UTT2SPK, UTT2SESSION)
    for a, b, target in zip(*trials, strict=True):
        assert (UTT2SPK[a] == UTT2SPK[b]) == target
        assert not target or UTT2SESSION[a] != UTT2SESSION[b]
    assert trials.target.sum() == 4 * 9  # all pairs: 3 x 3 across two sessions, for each of four speakers


def test_no_trial_appears_twice_in_either_order() -> None:
    trials = make_trials(UTT2SPK, per_speaker=1000)
    pairs = [frozenset(pair) for pair in zip(trials.enrol, trials.test, strict=True)]
    assert len(set(pairs)) == len(pairs)


def test_speakers_are_balanced_and_the_seed_decides() -> None:
    trials = make_trials(UTT2SPK, per_speaker=5, seed=1)
    enrolled = [UTT2SPK[a] for a, target in zip(trials.enrol, trials.target, strict=True) if target]
    assert {speaker: enrolled.count(speaker) for speaker in "abcd"} == dict.fromkeys("abcd", 5)
    again, other = make_trials(UTT2SPK, per_speaker=5, seed=1), make_trials(UTT2SPK, per_speaker=5, seed=2)
    assert trials.enrol == again.enrol
    assert trials.enrol != other.enrol


@pytest.mark.parametrize("per_speaker", [3, 200])
@pytest.mark.parametrize("num_sessions", [0, 1, 2, 5])
def test_targets_are_drawn_as_from_a_list_of_all_pairs(num_sessions: int, per_speaker: int) -> None:
    """The lists of earlier versions, which made all pairs, stay the same."""
    rng = np.random.default_rng(7)
    utterances = [f"u{i:02d}" for i in range(17)]
    sessions = [str(rng.integers(num_sessions)) for _ in utterances] if num_sessions else utterances
    session = dict(zip(utterances, sessions, strict=True))
    pairs = [(a, b) for a, b in combinations(utterances, 2) if session[a] != session[b]]
    expected = [pairs[i] for i in np.random.default_rng(1).permutation(len(pairs))[:per_speaker]]
    assert _draw_pairs(utterances, sessions, per_speaker, np.random.default_rng(1)) == expected


def test_a_speaker_with_many_utterances_fits_into_memory() -> None:
    """All 8 million pairs of 4,000 utterances take half a gigabyte."""
    utt2spk = {f"{speaker}/{i}": speaker for speaker in "ab" for i in range(4_000)}
    sessions = {utterance: f"{int(utterance[2:]) % 9}" for utterance in utt2spk}
    tracemalloc.start()
    trials = make_trials(utt2spk, sessions)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    targets = [pair for *pair, target in zip(*trials, strict=True) if target]
    assert len({frozenset(pair) for pair in targets}) == len(targets) == 400
    assert all(utt2spk[a] == utt2spk[b] and sessions[a] != sessions[b] for a, b in targets)
    assert {*trials.enrol} == {*make_trials(utt2spk, sessions).enrol}


def test_a_written_list_reads_back(tmp_path: Path) -> None:
    trials = make_trials(UTT2SPK, UTT2SESSION)
    write_trials(tmp_path / "list", trials)
    back = read_trials(tmp_path / "list")
    assert (back.enrol, back.test) == (trials.enrol, trials.test)
    np.testing.assert_array_equal(back.target, trials.target)


def test_data_without_enough_pairs_is_refused() -> None:
    with pytest.raises(UserError, match="needs at least two speakers, and the data has 1"):
        make_trials({"u": "a", "v": "a"})
    with pytest.raises(UserError, match="No speaker has two utterances, so there is no target trial"):
        make_trials({"u": "a", "v": "b"})
    with pytest.raises(UserError, match="No speaker has two utterances from different sessions"):
        make_trials({"u": "a", "v": "a", "w": "b"}, {"u": "1", "v": "1", "w": "1"})


def test_nontargets_stay_within_genders() -> None:
    gender = {"a": "f", "b": "m", "c": "f", "d": "m"}
    trials = make_trials(UTT2SPK, spk2gender=gender, per_speaker=50)
    for a, b, target in zip(*trials, strict=True):
        assert target or gender[UTT2SPK[a]] == gender[UTT2SPK[b]]
    assert np.count_nonzero(~trials.target) > 30
    with pytest.raises(UserError, match="No two speakers have the same gender"):
        make_trials(UTT2SPK, spk2gender={speaker: speaker for speaker in "abcd"})


def test_speakers_of_unknown_gender_are_paired_with_any_other() -> None:
    trials = make_trials(UTT2SPK, spk2gender={"a": "f", "b": "f", "c": "m"}, per_speaker=50)
    pairs = {(UTT2SPK[a], UTT2SPK[b]) for a, b, target in zip(*trials, strict=True) if not target}
    assert {frozenset(pair) for pair in pairs} == {frozenset(pair) for pair in ("ab", "ad", "bd", "cd")}


def table(tmp_path: Path) -> Path:
    lines = [f"{u},{s},{u[2]},{'fm'[s > 'b']}\n" for u, s in UTT2SPK.items()]
    path = tmp_path / "corpus.csv"
    path.write_text("utterance,speaker,session,gender\n" + "".join(lines))
    return path


def test_columns_of_the_data_decide_how_hard_the_list_is(tmp_path: Path) -> None:
    path = table(tmp_path)
    trials, said = draw_trials(path, per_speaker=9)
    for a, b, target in zip(*trials, strict=True):
        assert (a[2] != b[2]) if target else ((UTT2SPK[a] > "b") == (UTT2SPK[b] > "b"))
    assert said.startswith("36 target trials across sessions, ")
    assert said.endswith("nontarget trials within genders, 4 speakers.")
    _, said = draw_trials(path, session="none", gender="none")
    assert "of any sessions" in said
    assert "of any genders" in said


def test_an_empty_gender_is_unknown_and_two_are_refused(tmp_path: Path) -> None:
    gender_of = {"a": "m", "b": "f", "c": "", "d": ""}
    rows = [f"{u},{s},{'' if u == 'a-y-3' else gender_of[s]}\n" for u, s in UTT2SPK.items()]
    path = tmp_path / "corpus.csv"
    path.write_text("utterance,speaker,gender\n" + "".join(rows))
    trials, said = draw_trials(path)
    pairs = {frozenset((a[0], b[0])) for a, b, target in zip(*trials, strict=True) if not target}
    assert pairs == {frozenset(pair) for pair in ("ac", "ad", "bc", "bd", "cd")}  # a is male although his last is empty
    assert said.endswith("4 speakers. Those of unknown gender (2) are paired with speakers of any gender.")
    path.write_text(path.read_text().replace("a-y-3,a,", "a-y-3,a,f"))
    with pytest.raises(UserError, match=r"corpus\.csv: speaker 'a' has the genders 'm' and 'f'"):
        draw_trials(path)
    assert "of any genders" in draw_trials(path, gender="none")[1]


def test_blanks_do_not_tell_sessions_or_genders_apart_nor_does_case_tell_genders(tmp_path: Path) -> None:
    frames = np.zeros((20, SPEC.num_mel_bins), np.float16)
    rows = {"a1": "a,x ,f", "a2": "a, x,f ", "a3": "a,y,F", "b1": "b,x,F ", "b2": "b,y,"}
    (tmp_path / "g.csv").write_text(
        "utterance,speaker,session,gender\n" + "".join(f"{u},{r}\n" for u, r in rows.items())
    )
    split = {u: r.split(",") for u, r in rows.items()}
    records = [UtteranceFbank(u, s, frames, {"session": i, "gender": g}) for u, (s, i, g) in split.items()]
    write_shards(tmp_path / "shards", records, spec=SPEC, provenance={})
    for data in ("g.csv", "shards"):
        trials, said = draw_trials(tmp_path / data)
        pairs = {frozenset(pair) for *pair, target in zip(*trials, strict=True) if target}
        assert pairs == {frozenset(pair) for pair in (("a1", "a3"), ("a2", "a3"), ("b1", "b2"))}
        assert said.endswith("within genders, 2 speakers.")


def test_a_column_that_is_named_must_have_values(tmp_path: Path) -> None:
    path = table(tmp_path)
    path.write_text(
        "".join(
            f"{line},{end}\n" for line, end in zip(path.read_text().splitlines(), ["room"] + [""] * 24, strict=True)
        )
    )
    for options, message in (
        (
            {"session": "sesion"},
            r"Unknown session column 'sesion'\. Did you mean 'session'\? Valid: gender, none, room",
        ),
        ({"gender": "sex"}, r"Unknown gender column 'sex'"),
        ({"session": "room"}, r"The session column 'room' is empty\. Fill it in, or leave it out \(--session none\)"),
    ):
        with pytest.raises(UserError, match=message):
            draw_trials(path, **options)
    path.write_text("utterance,speaker\n" + "".join(f"{u},{s}\n" for u, s in UTT2SPK.items()))
    assert "of any sessions" in draw_trials(path)[1]
    result = CliRunner().invoke(make_trials_command, [str(path), str(tmp_path / "out"), "--session", "session"])
    assert isinstance(result.exception, UserError)
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(make_trials_command, [str(path), str(tmp_path / "out")]).exit_code == 0


def test_a_recording_is_not_paired_with_its_noisy_copy(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    copies = {"clean": "", "noise": "#noise"}
    lines = [f"{u}{ending},{s},{version}\n" for u, s in UTT2SPK.items() for version, ending in copies.items()]
    path.write_text("utterance,speaker,version\n" + "".join(lines))
    trials, _ = draw_trials(path)
    assert {*trials.enrol, *trials.test} == set(UTT2SPK)
    path.write_text(path.read_text().replace("clean", "reverb"))
    assert all(u.endswith("#noise") for u in draw_trials(path)[0].enrol)


def test_a_column_version_of_the_users_own_removes_nobody(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    lines = [f"{u},{s},{'v1' if u[2] == 'x' else 'v2'}\n" for u, s in UTT2SPK.items()]
    path.write_text("utterance,speaker,version\n" + "".join(lines))
    trials, _ = draw_trials(path)
    assert {*trials.enrol, *trials.test} == set(UTT2SPK)


def test_unknown_people_are_not_one_speaker(tmp_path: Path) -> None:
    path = table(tmp_path)
    path.write_text(path.read_text() + "e-x-1,,x,f\ne-y-1,,y,f\n")
    with pytest.raises(UserError, match=r"corpus\.csv:26: utterance 'e-x-1' has no speaker"):
        draw_trials(path)


def test_one_trial_is_no_trials(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("utterance,speaker\na1,a\na2,a\nb1,b\n")
    said = draw_trials(tmp_path / "g.csv", per_speaker=1)[1]
    assert said.startswith("1 target trial of any sessions, ")


def test_blanks_do_not_tell_speakers_apart(tmp_path: Path) -> None:
    frames = np.zeros((20, SPEC.num_mel_bins), np.float16)
    names = {"b1": "b", "b2": " b", "c1": "c", "c2": "c"}
    (tmp_path / "g.csv").write_text("utterance,speaker\n" + "".join(f"{u},{s}\n" for u, s in names.items()))
    records = [UtteranceFbank(u, s, frames) for u, s in names.items()]
    write_shards(tmp_path / "shards", records, spec=SPEC, provenance={})
    for data in ("g.csv", "shards"):
        with pytest.raises(UserError, match=rf"Two speakers in .*{data} are spelled.* look the same: .*' b'"):
            draw_trials(tmp_path / data)


def test_sessions_that_look_like_one_number_are_two(tmp_path: Path) -> None:
    frames = np.zeros((20, SPEC.num_mel_bins), np.float16)
    sessions = {"a1": "1.1", "a2": "1.10", "b1": "1.1", "b2": "1.10"}
    (tmp_path / "g.csv").write_text(
        "utterance,speaker,session\n" + "".join(f"{u},{u[0]},{i}\n" for u, i in sessions.items())
    )
    records = [UtteranceFbank(u, u[0], frames, {"session": i}) for u, i in sessions.items()]
    write_shards(tmp_path / "shards", records, spec=SPEC, provenance={})
    for data in ("g.csv", "shards"):
        assert draw_trials(tmp_path / data)[1].startswith("2 target trials across sessions, ")


def test_unknown_seconds_are_sessions_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("utterance,speaker,seconds\na1,a,3\na2,a,\nb1,b,3\nb2,b,\n")
    assert draw_trials(tmp_path / "g.csv", session="seconds")[0].target.sum() == 2


def test_training_speakers_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path)
    (tmp_path / "speakers.txt").write_text("z\nb\nb#speed0.9\n")
    with pytest.raises(UserError, match=r"corpus.csv: 1 speaker \('b'\) is also in .*Leave them out"):
        draw_trials(path, not_in=tmp_path)
    (tmp_path / "speakers.txt").write_text("z\n")
    assert draw_trials(path, not_in=tmp_path)[0].enrol
    path.write_text("utterance,session\na,x\n")
    with pytest.raises(UserError, match=r"no column speaker\. Trials need the speaker"):
        draw_trials(path)
