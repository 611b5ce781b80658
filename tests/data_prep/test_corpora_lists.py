"""Manifests of JSON lines, written and read back; paths that leave their root; names that cannot be ids."""

import json
import os
import pickle
import shlex
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from data_prep import cli
from data_prep.corpora import CORPORA
from data_prep.corpora.jsonl_list import jsonl_recordings, write_jsonl
from data_prep.corpora.sources import FilePart
from data_prep.manifest import Recording
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import Part, read_audio
from tests.support.tiny_audio import RATE, write_all, write_audio


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    write_all(tmp_path / "audio", ["a/1.wav", "a/zwei Wörter.flac", "b/3.wav"])
    return tmp_path / "audio"


def write_list(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_manifest_names_files_parts_and_attributes(audio: Path) -> None:
    path = write_list(
        audio / "list.jsonl",
        {"utterance": "x", "speaker": "a", "path": "a/1.wav", "room": "kitchen"},
        {"utterance": "y", "speaker": "b", "path": "b/3.wav", "start_s": 0.02, "end_s": 0.05},
        "",
        {"utterance": "z", "speaker": "b", "path": "b/3.wav", "channel": 0},
    )
    x, y, z = jsonl_recordings(path)
    assert x == Recording("x", "a", audio / "a/1.wav", {"room": "kitchen"})
    assert y == Recording("y", "b", FilePart(audio / "b/3.wav", Part(0.02, 0.05)), {})
    assert z.source == FilePart(audio / "b/3.wav", Part(channel=0))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(y)).source(RATE), read_audio(audio / "b/3.wav")[320:800])


@pytest.mark.parametrize("list_path", ["list.jsonl", "audio/list.jsonl", "lists/of mine/list.jsonl"])
def test_a_written_manifest_reads_back(audio: Path, tmp_path: Path, list_path: str) -> None:
    part = FilePart(audio / "a/1.wav", Part(0.01, 0.05, 0))
    recordings = [*CORPORA["folder"](audio), Recording("part", "a", part, {"session": "früh"})]
    root = write_jsonl(recordings, tmp_path / list_path)
    assert jsonl_recordings(tmp_path / list_path, root) == recordings
    if "of mine" not in list_path:  # the audio lies below the list: no hint
        assert jsonl_recordings(tmp_path / list_path) == recordings


def test_a_manifest_lists_only_files(audio: Path, tmp_path: Path) -> None:
    voices = CORPORA["synthetic"](num_speakers=1, sessions_per_speaker=1, utterances_per_session=1, seconds=(0.5, 0.6))
    with pytest.raises(UserError, match="'synthetic00000-00-000' is not a file or a part of one, and a manifest"):
        write_jsonl(voices, tmp_path / "list.jsonl")
    with pytest.raises(UserError, match="'x' has a column 'path', a field of manifests; rename it"):
        write_jsonl([Recording("x", "a", audio / "a/1.wav", {"path": "b"})], tmp_path / "list.jsonl")
    assert not (tmp_path / "list.jsonl").exists()


LINE = {"utterance": "x", "speaker": "a", "path": "a.wav"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"list\.jsonl:1 is not valid JSON \("),
        ([1], r"list\.jsonl:1 holds a list .*A line needs one JSON object; valid: utterance, speaker, path"),
        ({"utterance": "x", "path": "a"}, r"list\.jsonl:1: no text in the field 'speaker'"),
        (LINE | {"utterance": ""}, "no text in the field 'utterance'"),
        (LINE | {"age": 7}, "the field 'age' is 7; valid: .* in quotation marks"),
        (LINE | {"start_s": 2, "end_s": 1}, "start_s=2, end_s=1, channel=None: valid: seconds from 0"),
        (LINE | {"start_s": -1}, "start_s=-1"),
        (LINE | {"start_s": "1"}, "start_s=1, "),
        (LINE | {"end_s": float("inf")}, "end_s=inf"),
        (LINE | {"channel": 0.5}, "channel=0.5: valid: .* a whole number from 0"),
        (LINE | {"channel": True}, "channel=True"),
        (LINE | {"path": "../a.wav"}, r"list\.jsonl:1: '\.\./a\.wav' leads out of .*--root"),
        (LINE | {"path": "/a.wav"}, r"list\.jsonl:1: '/a\.wav' leads out of"),
        (LINE | {"path": "a\0.wav"}, "is not a path"),
        ("[" * 100_000, r"list\.jsonl:1 is not valid: its JSON is nested too deeply"),
    ],
)
def test_a_damaged_manifest_is_refused_by_line(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        jsonl_recordings(write_list(tmp_path / "list.jsonl", line))


def test_other_damage_to_a_manifest_is_refused(tmp_path: Path) -> None:
    path = write_list(tmp_path / "list.jsonl", LINE, LINE)
    with pytest.raises(UserError, match=r"list\.jsonl:2: utterance 'x' was listed before, in line 1, and ids are"):
        jsonl_recordings(path)
    path.write_text("\n")
    with pytest.raises(UserError, match=r"list\.jsonl lists no recordings"):
        jsonl_recordings(path)
    path.write_bytes(b'{"utterance": "\xff"}\n')
    with pytest.raises(UserError, match=r"list\.jsonl: not UTF-8 text"):
        jsonl_recordings(path)
    with pytest.raises(UserError, match=r"No such list: .*other\.jsonl"):
        jsonl_recordings(tmp_path / "other.jsonl")
    with pytest.raises(UserError, match=r"No such folder: nowhere\. --root is what the paths"):
        jsonl_recordings(path, "nowhere")


def test_the_root_confines_paths_but_not_links_in_it(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a").symlink_to(audio / "a")
    path = write_list(tmp_path / "list.jsonl", LINE | {"path": "a/1.wav"})
    (recording,) = jsonl_recordings(path, tmp_path / "links")
    np.testing.assert_array_equal(read_audio(recording.source), read_audio(audio / "a/1.wav"))
    outside = write_list(tmp_path / "outside.jsonl", LINE | {"path": str(audio / "a/1.wav")})
    with pytest.raises(UserError, match=r"leads out of .*links"):
        jsonl_recordings(outside, tmp_path / "links")
    assert jsonl_recordings(outside, "/")[0].source == audio / "a/1.wav"
    assert jsonl_recordings(outside, audio)[0].source == audio / "a/1.wav"


@pytest.mark.parametrize("path", ["../secret.wav", "/etc/passwd", "a/../../secret.wav"])
def test_the_root_confines_a_csv_list(tmp_path: Path, path: str) -> None:
    (tmp_path / "list.csv").write_text(f"path,speaker\nfine/../a.wav,x\n{path},x\n")
    with pytest.raises(UserError, match=r"list\.csv:3: .* leads out of"):
        CORPORA["csv"](tmp_path / "list.csv")


def test_csv_and_jsonl_name_parts_alike(audio: Path) -> None:
    rows = [
        ("x", "a", "a/1.wav", "0.02", "0.05", ""),
        ("y", "a", "a/1.wav", "", "", "0"),
        ("z", "b", "b/3.wav", "", "", ""),
    ]
    header = ("utterance", "speaker", "path", "start_s", "end_s", "channel")
    (audio / "list.csv").write_text("\n".join(",".join(row) for row in (header, *rows)) + "\n")
    lines = [
        {"utterance": "x", "speaker": "a", "path": "a/1.wav", "start_s": 0.02, "end_s": 0.05},
        {"utterance": "y", "speaker": "a", "path": "a/1.wav", "channel": 0},
        {"utterance": "z", "speaker": "b", "path": "b/3.wav", "start_s": None},
    ]
    recordings = CORPORA["csv"](audio / "list.csv")
    assert recordings == CORPORA["jsonl"](write_list(audio / "list.jsonl", *lines))
    assert recordings[0].source == FilePart(audio / "a/1.wav", Part(0.02, 0.05))
    assert recordings[2].source == audio / "b/3.wav"


@pytest.mark.parametrize(
    ("cells", "message"),
    [("2,1,", "start_s=2, end_s=1"), ("x,,", "start_s=x"), (",nan,", "end_s=nan"), (",,0.5", "channel=0.5")],
)
def test_a_csv_list_with_an_impossible_part_is_refused(audio: Path, cells: str, message: str) -> None:
    (audio / "list.csv").write_text(f"path,speaker,start_s,end_s,channel\na/1.wav,a,{cells}\n")
    with pytest.raises(UserError, match=rf"list\.csv:2: .*{message}.*valid: seconds from 0"):
        CORPORA["csv"](audio / "list.csv")


def test_blanks_in_the_header_of_a_csv_list_do_not_count(audio: Path) -> None:
    (audio / "list.csv").write_text("path , speaker\na/1.wav, a\n")
    (recording,) = CORPORA["csv"](audio / "list.csv")
    assert (recording.utterance, recording.speaker) == ("a/1.wav", "a")


def test_a_csv_list_with_a_path_twice_asks_for_ids(audio: Path) -> None:
    (audio / "list.csv").write_text("path,speaker\na/1.wav,a\n./a/1.wav,a\n")
    with pytest.raises(UserError, match=r"list\.csv:3: utterance 'a/1.wav' was listed before, in line 2.*column utt"):
        CORPORA["csv"](audio / "list.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"a\x1b[31m.wav",a', r"The utterance 'a\\x1b\[31m\.wav' has the character '\\x1b'"),
        ('a.wav,"a\nb"', r"The speaker of 'a\.wav', 'a\\nb' has the character '\\n'"),
    ],
)
def test_control_characters_in_names_are_refused(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(f"path,speaker\n{row}\n")
    with pytest.raises(UserError, match=message):
        CORPORA["csv"](tmp_path / "list.csv")


# ---- folders


def test_all_kinds_of_audio_are_read_and_other_files_are_counted(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a/2.sph", "a/3.aiff", "b/4.au", "b/5.AMR", "b/6.ape", "b/7.ape", "b/8.wv", "b/notes.txt"):
        (audio / name).write_bytes(b"x")
    names = [recording.utterance for recording in CORPORA["folder"](audio)]
    assert names == ["a/1.wav", "a/2.sph", "a/3.aiff", "a/zwei Wörter.flac", "b/3.wav", "b/4.au", "b/5.AMR"]
    assert "Ignored 3 files with endings that no reader knows: .ape 2, .wv 1." in caplog.text
    (audio.parent / "other").mkdir()
    (audio.parent / "other" / "1.ape").touch()
    with pytest.raises(UserError, match=r"No audio below .*\.wav.* Ignored 1 file .*: \.ape 1\."):
        CORPORA["folder"](audio.parent / "other")


def test_speakers_that_look_the_same_are_refused(audio: Path) -> None:
    write_all(audio, [f"{unicodedata.normalize(form, 'é')}/1.wav" for form in ("NFC", "NFD")])
    with pytest.raises(UserError, match="Two utterances are spelled differently and look the same"):
        CORPORA["folder"](audio)


@pytest.mark.parametrize(
    ("speakers", "message"),
    [
        (("s0", " s0"), "Two speakers are spelled differently and look the same: 's0' and ' s0'"),
        (("s0 1", "s0  1"), "look the same: 's0 1' and 's0  1'"),
        (("s0", "  "), r"The speaker of 'b/3\.wav', '  ' is only white space"),
    ],
)
def test_blanks_do_not_tell_speakers_apart(audio: Path, speakers: tuple[str, str], message: str) -> None:
    path = write_list(audio / "list.csv", "path,speaker", f"a/1.wav,{speakers[0]}", f"b/3.wav,{speakers[1]}")
    with pytest.raises(UserError, match=message):
        CORPORA["csv"](path)
    path = write_list(audio / "list.csv", "path,speaker,room", "a/1.wav,s0 1, ", "b/3.wav,s0 2,hall ")
    named = [(recording.speaker, recording.attributes["room"]) for recording in CORPORA["csv"](path)]
    assert named == [("s0 1", ""), ("s0 2", "hall")]


def test_a_name_that_is_there_twice_is_refused(audio: Path) -> None:
    path = write_list(audio / "list.csv", "path,speaker,speaker", "a/1.wav,a,x")
    with pytest.raises(UserError, match=r"list\.csv:1: two columns are called 'speaker'"):
        CORPORA["csv"](path)
    path = write_list(audio / "list.jsonl", '{"utterance": "u", "speaker": "a", "speaker": "b", "path": "a/1.wav"}')
    with pytest.raises(UserError, match=r"list\.jsonl:1 is not valid JSON \(the key 'speaker' is there twice\)"):
        CORPORA["jsonl"](path)
    path = write_list(audio / "list.csv", "path,speaker,,", "a/1.wav,a,,note")
    assert CORPORA["csv"](path) == [Recording("a/1.wav", "a", audio / "a/1.wav", {})]


def test_names_that_are_not_ids_are_refused(audio: Path) -> None:
    os.rename(os.fsencode(audio / "b" / "3.wav"), os.fsencode(audio / "b") + b"/caf\xe9.wav")
    with pytest.raises(UserError, match=r"caf\\xe9\.wav': the name is not UTF-8, .*\(1 such file\)\. Rename"):
        CORPORA["folder"](audio)


def test_hidden_files_and_folders_are_skipped(audio: Path) -> None:
    write_all(audio, ["a/._1.wav", ".trash/x/1.wav", "b/.partial/1.wav"])
    assert [recording.utterance for recording in CORPORA["folder"](audio)] == [
        "a/1.wav",
        "a/zwei Wörter.flac",
        "b/3.wav",
    ]


def test_a_link_to_the_folder_around_it_is_not_followed_forever(audio: Path) -> None:
    (audio / "a" / "again").symlink_to(audio)
    assert len(CORPORA["folder"](audio)) == 3


def test_a_folder_that_cannot_be_read_is_named(audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"/b: the folder can ?not be read \(Permission denied\)"):
        CORPORA["folder"](audio)


# ---- the command


def test_the_manifest_of_a_corpus_builds_the_same(tmp_path: Path) -> None:
    write_audio(tmp_path / "my corpus/wav/id10001/1zcIwhmdeo4/00001.wav", np.zeros(2_000))
    arguments = [
        "manifest",
        "voxceleb1",
        str(tmp_path / "my corpus"),
        str(tmp_path / "out/list.jsonl"),
        "--split",
        "dev",
    ]
    result = CliRunner().invoke(cli.prepare, arguments, catch_exceptions=False)
    assert "list.jsonl: 1 recording. Build their shards with: mqmha prep jsonl" in result.output
    _, _, _, path, _, _, root = shlex.split(result.output.split("with: ")[1])
    assert jsonl_recordings(path, root) == CORPORA["voxceleb1"](tmp_path / "my corpus")


def test_every_corpus_has_both_commands() -> None:
    manifest = cli.prepare.commands["manifest"]
    assert manifest.commands.keys() == CORPORA.keys()
    assert CORPORA.keys() < cli.prepare.commands.keys()
    for name, command in manifest.commands.items():
        own = [parameter.name for parameter in command.params]
        assert "output" in own
        assert "num_mel_bins" not in own
        assert {*own} < {parameter.name for parameter in cli.prepare.commands[name].params}
