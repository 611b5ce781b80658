"""VoxCeleb in miniature, in every layout that the official archives unpack to; ids agree with the official lists."""

import re
from pathlib import Path

import numpy as np
import pytest

from data_prep.corpora import CORPORA
from data_prep.official_lists import import_official
from mqmha_jax.data.lists import check_trials
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio
from tests.support.tiny_audio import write_all

DEV = ["id10001/1zcIwhmdeo4/00001.wav", "id10001/7gWzIy6yIIk/00001.wav", "id11251/s4R4hvqrhFw/00009.wav"]
TEST = ["id10270/5r0dWxy17C8/00001.wav", "id10270/x6uYqmx31kE/00002.wav", "id10309/0b1inHMAr6o/00003.wav"]
VOX1_META = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\nid10270\tEartha_Kitt\tf\tUSA\ttest\n"
)
VOX2_META = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00017 ,n000017 ,f ,test \n"


def names(recordings: list) -> list[str]:
    return [recording.utterance for recording in recordings]


@pytest.mark.parametrize(
    ("dev", "test"),
    [
        ("wav", "wav"),
        ("dev/wav", "test/wav"),
        ("vox1_dev_wav/wav", "vox1_test_wav/wav"),
        ("VoxCeleb 1/dev/wav", "VoxCeleb 1/test/wav"),
    ],
)
def test_every_layout_gives_the_ids_of_the_lists(tmp_path: Path, dev: str, test: str) -> None:
    write_all(tmp_path / dev, DEV)
    write_all(tmp_path / test, TEST)
    recordings = CORPORA["voxceleb1"](tmp_path)
    assert names(recordings) == sorted(DEV + TEST)
    assert names(CORPORA["voxceleb1"](tmp_path, split="dev")) == DEV
    assert names(CORPORA["voxceleb1"](tmp_path, split="test")) == TEST
    assert recordings[0].speaker == "id10001"
    assert recordings[0].attributes == {"session": "1zcIwhmdeo4"}
    assert recordings[0].source == tmp_path / dev / DEV[0]


def test_genders_and_nationalities_come_from_the_owners_table(tmp_path: Path) -> None:
    write_all(tmp_path / "wav", DEV + TEST)
    (tmp_path / "vox1_meta.csv").write_text(VOX1_META)
    attributes = {recording.speaker: recording.attributes for recording in CORPORA["voxceleb1"](tmp_path)}
    assert attributes["id10270"] == {"session": "x6uYqmx31kE", "gender": "f", "nationality": "USA"}
    assert attributes["id11251"] == {"session": "s4R4hvqrhFw"}
    elsewhere = tmp_path / "meta data.csv"
    elsewhere.write_text(VOX1_META.replace("USA", "Utopia"))
    assert CORPORA["voxceleb1"](tmp_path, split="test", metadata=elsewhere)[0].attributes["nationality"] == "Utopia"
    elsewhere.write_text(VOX1_META.replace("id1", "id0"))
    with pytest.raises(UserError, match=r"meta data\.csv has none of the speakers of .*, such as id1.* Give vox1_meta"):
        CORPORA["voxceleb1"](tmp_path, metadata=elsewhere)


def test_voxceleb2_as_distributed(tmp_path: Path) -> None:
    write_all(tmp_path / "dev/aac", ["id00012/21Uxsk56VDQ/00001.m4a"])
    write_all(tmp_path / "test/aac", ["id00017/01dfn2spqyE/00001.m4a"])
    (dev,) = CORPORA["voxceleb2"](tmp_path, split="dev")
    (test,) = CORPORA["voxceleb2"](tmp_path, split="test")
    assert dev.utterance == "id00012/21Uxsk56VDQ/00001.wav"  # as the lists have it, though the file is an m4a
    assert test.utterance == "id00017/01dfn2spqyE/00001.wav"
    assert len(read_audio(dev.source)) >= 1600


def test_the_table_gives_the_split_if_folders_do_not(tmp_path: Path) -> None:
    write_all(tmp_path / "aac", ["id00012/21Uxsk56VDQ/00001.m4a", "id00017/01dfn2spqyE/00001.m4a"])
    assert len(CORPORA["voxceleb2"](tmp_path)) == 2
    with pytest.raises(UserError, match=r"it is unknown whether id00012 belongs to dev or test.*vox2_meta\.csv"):
        CORPORA["voxceleb2"](tmp_path, split="test")
    (tmp_path / "vox2_meta.csv").write_text(VOX2_META)
    (test,) = CORPORA["voxceleb2"](tmp_path, split="test")
    assert (test.speaker, test.attributes) == ("id00017", {"session": "01dfn2spqyE", "gender": "f"})


def test_an_official_list_can_be_evaluated_on_the_corpus(tmp_path: Path) -> None:
    write_all(tmp_path / "wav", TEST)
    (tmp_path / "veri_test2.txt").write_text(f"1 {TEST[0]} {TEST[1]}\n0 {TEST[0]} {TEST[2]}\n")
    trials = import_official("voxceleb", tmp_path / "veri_test2.txt").trials
    recordings = CORPORA["voxceleb1"](tmp_path, split="test")
    assert not check_trials(trials, names(recordings))
    speaker = {recording.utterance: recording.speaker for recording in recordings}
    same = [speaker[a] == speaker[b] for a, b in zip(trials.enrol, trials.test, strict=True)]
    np.testing.assert_array_equal(same, trials.target)


@pytest.mark.parametrize("below", ["wav/id10001", "wav/id10001/1zcIwhmdeo4"])
def test_a_folder_that_is_too_deep_names_the_right_one(tmp_path: Path, below: str) -> None:
    write_all(tmp_path / "wav", DEV)
    right = re.escape(str(tmp_path / "wav"))
    with pytest.raises(
        UserError, match=rf"the folder of one speaker or lies in it\. Give the folder around it, {right}\."
    ):
        CORPORA["voxceleb1"](tmp_path / below)


def test_a_missing_corpus_is_named_with_its_owner(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"vox1_dev_wav\.zip .*vox1_meta\.csv from https://www\.robots\.ox\.ac\.uk"):
            CORPORA["voxceleb1"](directory)
    write_all(tmp_path / "wav", TEST)
    with pytest.raises(UserError, match=r"no recordings of the split dev\. Get vox1_dev_wav\.zip"):
        CORPORA["voxceleb1"](tmp_path, split="dev")
    with pytest.raises(UserError, match=r"Unknown split 'tset'\. Did you mean 'test'"):
        CORPORA["voxceleb1"](tmp_path, split="tset")


def test_files_that_do_not_belong_are_named(tmp_path: Path) -> None:
    write_all(tmp_path / "a", ["id10001/00001.wav"])
    with pytest.raises(UserError, match=r"id10001/00001\.wav is out of place: recordings of VoxCeleb1"):
        CORPORA["voxceleb1"](tmp_path / "a")
    write_all(tmp_path / "b", [*DEV, "id00012/21Uxsk56VDQ/00001.m4a"])
    with pytest.raises(UserError, match=r"id00012 is a speaker of VoxCeleb2\. Use the command voxceleb2"):
        CORPORA["voxceleb1"](tmp_path / "b")
    write_all(tmp_path / "c/aac", ["id00012/21Uxsk56VDQ/00001.m4a"])
    write_all(tmp_path / "c/wav", ["id00012/21Uxsk56VDQ/00001.wav"])
    with pytest.raises(UserError, match=r"exists twice: .*aac.* and .*wav.*Give the folder of one of the two"):
        CORPORA["voxceleb2"](tmp_path / "c")


@pytest.mark.parametrize("text", ["", "speaker,age\nid10001,3\n", "\xff\n"])
def test_another_table_is_refused(tmp_path: Path, text: str) -> None:
    write_all(tmp_path / "wav", DEV)
    (tmp_path / "vox1_meta.csv").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"vox1_meta\.csv(:1: not the metadata of VoxCeleb|: the metadata can ?not be)"):
        CORPORA["voxceleb1"](tmp_path)
