"""CN-Celeb in miniature: ids agree with the lists in eval/lists, for one and for several enrolment files."""

from pathlib import Path

import pytest

from data_prep.corpora import CORPORA
from data_prep.official_lists import import_official
from mqmha_jax.data.lists import check_trials
from mqmha_jax.errors import UserError
from tests.support.tiny_audio import write_all

FILES = [
    "data/id00012/singing-01-001.flac",
    "data/id00012/singing-01-002.flac",
    "data/id00800/interview-02-001.flac",
    "data/id00800/vlog-01-003.flac",
    "eval/enroll/id00800-enroll.flac",
    "eval/test/id00800-singing-01-002.flac",
    "eval/test/id00801-live_broadcast-03-001.flac",
]
TRIALS = "id00800-enroll test/id00800-singing-01-002.wav 1\nid00800-enroll test/id00801-live_broadcast-03-001.wav 0\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "CN-Celeb_flac"
    write_all(root, FILES)
    lists = root / "eval" / "lists"
    lists.mkdir()
    (lists / "enroll.lst").write_text("id00800-enroll enroll/id00800-enroll.wav\n")
    (lists / "enroll.map").write_text("id00800-enroll id00800/interview-02-001.wav id00800/vlog-01-003.wav\n")
    (lists / "trials.lst").write_text(TRIALS)
    (root / "dev").mkdir()
    (root / "dev" / "dev.lst").write_text("id00012\n")
    return root


def by_id(recordings: list) -> dict:
    return {recording.utterance: recording for recording in recordings}


def test_shards_cover_the_lists_of_the_owners(corpus: Path) -> None:
    recordings = by_id(CORPORA["cnceleb"](corpus, split="eval"))
    official = import_official("cnceleb", corpus / "eval/lists/trials.lst")
    assert not check_trials(official.trials, recordings)
    (enrolled,) = official.models.values()
    assert [recordings[utterance].speaker for utterance in enrolled] == ["id00800", "id00800"]
    assert len(recordings) == 5


def test_names_genres_and_sessions(corpus: Path) -> None:
    recordings = by_id(CORPORA["cnceleb"](corpus.parent))
    assert len(recordings) == len(FILES)
    data = recordings["id00012/singing-01-002.wav"]
    assert data.source == corpus / "data/id00012/singing-01-002.flac"
    assert (data.speaker, data.attributes) == ("id00012", {"genre": "singing", "session": "singing-01"})
    test = recordings["test/id00801-live_broadcast-03-001.wav"]
    assert (test.speaker, test.attributes) == ("id00801", {"genre": "live_broadcast", "session": "live_broadcast-03"})
    assert recordings["enroll/id00800-enroll.wav"].speaker == "id00800"


def test_training_excludes_the_speakers_of_the_evaluation(corpus: Path) -> None:
    assert {recording.speaker for recording in CORPORA["cnceleb"](corpus, split="dev")} == {"id00012"}
    (corpus / "dev" / "dev.lst").unlink()
    with pytest.raises(
        UserError, match=r"dev\.lst: no such list; without it, training would include the speakers of eval/"
    ):
        CORPORA["cnceleb"](corpus, split="dev")


def test_cnceleb2_is_for_training_as_a_whole(tmp_path: Path) -> None:
    write_all(tmp_path / "CN-Celeb2_flac", ["data/id10001/drama-01-001.flac", "data/id10002/speech-04-001.flac"])
    recordings = CORPORA["cnceleb"](tmp_path / "CN-Celeb2_flac", split="dev")
    assert [recording.utterance for recording in recordings] == [
        "id10001/drama-01-001.wav",
        "id10002/speech-04-001.wav",
    ]
    with pytest.raises(UserError, match="has no folder eval/, so there is no split eval; CN-Celeb1 has it"):
        CORPORA["cnceleb"](tmp_path, split="eval")


def test_mistakes_are_named(corpus: Path, tmp_path: Path) -> None:
    for inside in ("data", "data/id00012", "eval/test"):
        with pytest.raises(UserError, match=f"a part of the corpus. Give the folder around it, {corpus}"):
            CORPORA["cnceleb"](corpus / inside)
    with pytest.raises(UserError, match=r"cn-celeb_v2\.tar\.gz .*https://www\.openslr\.org/82/"):
        CORPORA["cnceleb"](tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"Unknown split 'evl'\. Did you mean 'eval'"):
        CORPORA["cnceleb"](corpus, split="evl")
    (corpus / "data/id00800/vlog-01-003.flac").unlink()
    with pytest.raises(UserError, match=r"enroll\.map names id00800/vlog-01-003\.wav, which is not in data/"):
        CORPORA["cnceleb"](corpus, split="eval")
    write_all(corpus, ["data/id00012/noname.flac"])
    with pytest.raises(UserError, match=r"noname\.flac: the name must contain a genre"):
        CORPORA["cnceleb"](corpus)


def test_a_folder_with_two_corpora_is_refused(corpus: Path) -> None:
    write_all(corpus.parent / "CN-Celeb2_flac", ["data/id10001/drama-01-001.flac"])
    with pytest.raises(UserError, match=r"holds several corpora: .*CN-Celeb2_flac, .*CN-Celeb_flac\. Give one of them"):
        CORPORA["cnceleb"](corpus.parent)
