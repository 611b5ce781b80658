"""One language of Common Voice in miniature."""

from pathlib import Path

import pytest

from data_prep.corpora import CORPORA
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio
from tests.support.tiny_audio import write_all

HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\tsegment\n"


def write_list(root: Path, text: str, name: str = "validated") -> Path:
    write_all(root / "clips", ["common_voice_cy_1.mp3", "common_voice_cy_2.mp3"])
    (root / f"{name}.tsv").write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    text = (
        HEADER
        + 'ab12\tcommon_voice_cy_1.mp3\tDwedodd "na\t2\t0\ttwenties\tfemale\t\tcy\t\n'
        + "cd34\tcommon_voice_cy_2\tIe.\t2\t0\t\t\t\tcy\t\n"
    )
    return write_list(tmp_path / "cv-corpus-19.0/cy", text)


def test_the_list_gives_speakers_and_their_attributes(corpus: Path) -> None:
    one, two = CORPORA["common-voice"](corpus)
    assert (one.utterance, one.speaker) == ("common_voice_cy_1.mp3", "ab12")
    assert one.attributes == {"age": "twenties", "gender": "female", "locale": "cy"}
    assert two.utterance == "common_voice_cy_2.mp3"  # the first releases omit the ending
    assert len(read_audio(two.source)) > 1000
    assert CORPORA["common-voice"](corpus.parent) == [one, two]


def test_another_list_is_read(corpus: Path) -> None:
    (corpus / "test.tsv").write_text(HEADER + "cd34\tcommon_voice_cy_2.mp3\tIe.\t2\t0\t\t\t\tcy\t\n")
    assert len(CORPORA["common-voice"](corpus, split="test")) == 1
    with pytest.raises(UserError, match=r"train\.tsv: no such list\. Choose another with --split: test, validated"):
        CORPORA["common-voice"](corpus, split="train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tpath\n1\t2\n", r"validated\.tsv:1: no column client_id; this is not a list of Common Voice"),
        (HEADER, "lists no recordings; choose another with --split"),
        (HEADER + "ab\n", r"validated\.tsv:2: no path"),
        (HEADER + "ab\ta.mp3\ncd\ta.mp3\n", r"validated\.tsv:3: a\.mp3 is listed twice"),
        (HEADER + "ab\t../../a.mp3\n", r"validated\.tsv:2: '../../a\.mp3' leads out of .*clips"),
    ],
)
def test_a_damaged_list_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CORPORA["common-voice"](write_list(tmp_path, text))


def test_wrong_levels_and_what_to_download(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"a part of the corpus. Give the folder around it, {corpus}"):
        CORPORA["common-voice"](corpus / "clips")
    write_list(corpus.parent / "en", HEADER)
    with pytest.raises(UserError, match=r"holds several corpora: .*cy, .*en\. Give one"):
        CORPORA["common-voice"](corpus.parent)
    with pytest.raises(UserError, match=r"https://commonvoice\.mozilla\.org/datasets"):
        CORPORA["common-voice"](tmp_path)
