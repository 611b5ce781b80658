"""The field's lists in miniature: read, checked against the speakers in their ids, written for our shards."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from data_prep import official_lists
from data_prep.official_lists import VOXCELEB1, import_official, write_models
from mqmha_jax.cli_trials import import_trials
from mqmha_jax.data.lists import check_trials, read_models, read_trials
from mqmha_jax.errors import UserError

VOXCELEB = (
    "1 id10270/5r0dWxy17C8/00001.wav id10270/x6uYqmx31kE/00002.wav\n"
    "0 id10270/5r0dWxy17C8/00001.wav id10300/ize_eiCFEg0/00003.wav\n"
)
CNCELEB = "id00800-enroll test/id00800-singing-01-002.wav 1\nid00800-enroll test/id00801-vlog-01-001.wav 0\n"


def write(tmp_path: Path, text: str, name: str = "list.txt") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize("name", VOXCELEB1.values())
def test_voxceleb_lists_are_recognised_by_their_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write(tmp_path, VOXCELEB)
    monkeypatch.setattr(official_lists, "VOXCELEB1", {2: name})
    trials, models, said = import_official("voxceleb", path)
    assert models == {}
    assert trials.enrol == ("id10270/5r0dWxy17C8/00001.wav",) * 2
    assert trials.test == ("id10270/x6uYqmx31kE/00002.wav", "id10300/ize_eiCFEg0/00003.wav")
    np.testing.assert_array_equal(trials.target, [True, False])
    assert said == f"{name}: 1 target and 1 nontarget trials."


def test_a_truncated_voxceleb_list_is_not_called_one(tmp_path: Path) -> None:
    *_, said = import_official("voxceleb", write(tmp_path, VOXCELEB))
    assert said.startswith("VoxCeleb form, with another number of trials than the six lists of VoxCeleb1")


def test_cnceleb_enrolments_become_files(tmp_path: Path) -> None:
    write(tmp_path, "id00800-enroll enroll/id00800-enroll.wav\n", "enroll.lst")
    trials, models, said = import_official("cnceleb", write(tmp_path, CNCELEB), suffix=".flac")
    assert trials.enrol == ("enroll/id00800-enroll.flac",) * 2
    assert trials.test == ("test/id00800-singing-01-002.flac", "test/id00801-vlog-01-001.flac")
    assert said.startswith("CN-Celeb: 1 target")
    assert models == {}  # no enroll.map exists
    other = write(tmp_path, "id00801-enroll enroll/id00801-enroll.wav\n", "other.lst")
    with pytest.raises(UserError, match="enrolment 'id00800-enroll' is not in the enrolment list"):
        import_official("cnceleb", tmp_path / "list.txt", enrol_list=other)
    write(tmp_path, "id00800-enroll\n", "enroll.lst")
    with pytest.raises(UserError, match=r"enroll\.lst:1: 1 fields; a line holds 'enrolment file'"):
        import_official("cnceleb", tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["id00800-enroll", "id00800"])
def test_cnceleb_enrolments_of_several_utterances(tmp_path: Path, name: str) -> None:
    """One list serves both protocols: embed the joined file, or the utterances that the map names for it."""
    lists = tmp_path / "eval" / "lists"
    lists.mkdir(parents=True)
    write(lists, CNCELEB, "trials.lst")
    write(lists, "id00800-enroll enroll/id00800-enroll.wav\nid00801-enroll enroll/id00801-enroll.wav\n", "enroll.lst")
    rest = "id00801-enroll id00801/vlog-02-001.wav\n"
    write(lists, f"{name} id00800/singing-01-001.wav id00800/drama-02-003.wav\n{rest}", "enroll.map")
    out = tmp_path / "cn.trials"
    result = CliRunner().invoke(import_trials, ["cnceleb", str(lists / "trials.lst"), str(out), "--suffix", ".flac"])
    assert result.exit_code == 0, result.output
    assert f"{out}.map: the utterances of 1 enrolment, for" in result.output
    models = read_models(f"{out}.map")
    assert models == {"enroll/id00800-enroll.flac": ("id00800/singing-01-001.flac", "id00800/drama-02-003.flac")}
    trials = read_trials(out)
    assert {*trials.enrol} == models.keys()
    shards = [*trials.enrol, *trials.test, *(utterance for own in models.values() for utterance in own)]
    assert check_trials(trials, set(shards)) == check_trials(trials, set(shards), known_models=models) == []


def test_a_suffix_needs_no_dot_and_is_no_path(tmp_path: Path) -> None:
    path = write(tmp_path, "1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav\n")
    assert import_official("voxceleb", path, suffix="flac").trials.enrol == ("id10270/x6uYqmx31kE/00001.flac",)
    for wrong in ("", ".", "a/b", "flac."):
        with pytest.raises(
            UserError, match=r"--suffix '.*': not the ending of a file's name\. Give one such as \.flac"
        ):
            import_official("voxceleb", path, suffix=wrong)


def test_written_models_read_back_with_spaces_in_their_names(tmp_path: Path) -> None:
    models = {"enrol one.wav": ("id1/take 1.wav", "id1/2.wav"), "two": ('"quoted".wav',)}
    write_models(tmp_path / "map", models)
    assert read_models(tmp_path / "map") == models


def test_an_enrolment_with_two_files_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, CNCELEB)
    lines = "id00800-enroll enroll/id00800-enroll.wav\nid00800-enroll enroll/other.wav\n"
    write(tmp_path, lines, "enroll.lst")
    with pytest.raises(
        UserError, match=r"enroll\.lst:2: 'id00800-enroll' has the files 'enroll/id00800-enroll\.wav' and"
    ):
        import_official("cnceleb", path)


def test_damaged_enrolment_maps_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, CNCELEB)
    write(tmp_path, "id00800-enroll enroll/id00800-enroll.wav\n", "enroll.lst")
    write(tmp_path, "id00800-enroll id00800/a.wav id00801/b.wav\n", "enroll.map")
    message = r"enroll\.map: 'id00800-enroll' is enrolled with 'id00801/b\.wav', which is not an utterance of id00800"
    with pytest.raises(UserError, match=message):
        import_official("cnceleb", path)
    other = write(tmp_path, "id00801-enroll id00801/b.wav\n", "other.map")
    with pytest.raises(UserError, match=r"other\.map: enrolment 'id00800-enroll' of .*list\.txt is missing"):
        import_official("cnceleb", path, enrol_map=other)
    with pytest.raises(UserError, match=r"none\.map: the list can ?not be read"):
        import_official("cnceleb", path, enrol_map=tmp_path / "none.map")
    result = CliRunner().invoke(import_trials, ["voxceleb", str(path), str(tmp_path / "o"), "--enrol-map", str(other)])
    assert str(result.exception) == "--enrol-list and --enrol-map belong to CN-Celeb; leave them out with voxceleb."


def test_voxsrc_lists_are_read(tmp_path: Path) -> None:
    trials, _, said = import_official(
        "voxsrc", write(tmp_path, "1 VoxSRC2022_dev/000.wav id10003/na8/00003.wav\n0 a b\n")
    )
    assert trials.enrol == ("VoxSRC2022_dev/000.wav", "a")
    assert said.startswith("VoxSRC form: 1 target")
    with pytest.raises(UserError, match="a blind test list, which only the challenge can evaluate"):
        import_official("voxsrc", write(tmp_path, "a.wav b.wav\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VOXCELEB.replace("1 id10270", "0 id10270"), "trial 1 is labelled 0, but its speakers are id10270 and id10270"),
        (
            VOXCELEB + "0 id10270/x/00001.wav elsewhere.wav\n",
            "trial 3: 'elsewhere.wav' names no speaker; ids look like",
        ),
        ("1 id10270/a/00001.wav\n", "list.txt:1: 2 fields, but a trial has three"),
        ("", "is empty"),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_official("voxceleb", write(tmp_path, text))


def test_the_map_beside_the_list_is_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "o.map").mkdir()
    monkeypatch.setattr(official_lists, "import_official", lambda *_, **__: pytest.fail("read the list"))
    result = CliRunner().invoke(import_trials, ["cnceleb", str(write(tmp_path, CNCELEB)), str(tmp_path / "o")])
    assert "o.map is a directory" in str(result.exception)
    assert not (tmp_path / "o").exists()
