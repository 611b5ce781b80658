"""Kaldi data directories in miniature: paths, segments, archives, and commands only if they are allowed."""

import re
from pathlib import Path

import numpy as np
import pytest

from data_prep.corpora import CORPORA, sources
from data_prep.corpora.sources import ShellCommand
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio
from tests.support.tiny_audio import RATE, write_audio


def write_lists(directory: Path, **lists: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in lists.items():
        (directory / name.replace("wav_scp", "wav.scp")).write_text(text, encoding="utf-8")
    return directory


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("one.wav", "two words.flac"):
        write_audio(tmp_path / "audio" / name, rng.uniform(-0.3, 0.3, RATE).astype(np.float32))
    return tmp_path / "audio"


def test_paths_speakers_and_genders(audio: Path, tmp_path: Path) -> None:
    directory = write_lists(
        tmp_path / "data",
        wav_scp=f"a-1 one.wav\nb-1\t{audio}/two words.flac\n\n",
        utt2spk="b-1 b\na-1 a\n",
        spk2gender="a f\n",
        utt2dur="a-1 1.0\n",
    )
    b, a = CORPORA["kaldi"](directory, root=audio)
    assert (a.utterance, a.speaker, a.source, a.attributes) == ("a-1", "a", audio / "one.wav", {"gender": "f"})
    assert (b.utterance, b.speaker, b.source, b.attributes) == ("b-1", "b", audio / "two words.flac", {})


def test_segments_cut_recordings(audio: Path, tmp_path: Path) -> None:
    directory = write_lists(
        tmp_path / "data",
        wav_scp="r1 one.wav\n",
        segments="a-1 r1 0.25 0.75\na-2 r1 0.5 -1\n",
        utt2spk="a-1 a\na-2 a\n",
    )
    one, two = CORPORA["kaldi"](directory, root=audio)
    whole = read_audio(audio / "one.wav")
    np.testing.assert_array_equal(one.source(RATE), whole[4_000:12_000])
    np.testing.assert_array_equal(two.source(RATE), whole[8_000:])
    assert one.attributes == {"session": "r1"}


def test_quoted_and_plain_names_are_found(audio: Path, tmp_path: Path) -> None:
    directory = write_lists(
        tmp_path / "data",
        wav_scp='"my rec" one.wav\nrec one.wav\n',
        segments='a-1 "my rec" 0.25 0.75\na-2 ./rec 0.5 -1\n',
        utt2spk="a-1 ./a\na-2 b\n",
        spk2gender="./a f\n./b m\n",
    )
    one, two = CORPORA["kaldi"](directory, root=audio)
    assert one.attributes == {"session": "my rec", "gender": "f"}
    assert two.attributes == {"session": "rec", "gender": "m"}


def test_archives_of_wav_files(audio: Path, tmp_path: Path) -> None:
    wav = (audio / "one.wav").read_bytes()
    (audio / "all.ark").write_bytes(b"a-1 " + wav + b"a-2 " + wav)
    second = 4 + len(wav) + 4
    directory = write_lists(
        tmp_path / "data",
        wav_scp=f"a-1 all.ark:4\na-2 all.ark:{second}\na-3 all.ark:5\na-4 none.ark:4\n",
        utt2spk="a-1 a\na-2 a\na-3 a\na-4 a\n",
    )
    sources = [recording.source for recording in CORPORA["kaldi"](directory, root=audio)]
    for source in sources[:2]:
        np.testing.assert_array_equal(source(RATE), read_audio(audio / "one.wav"))
    with pytest.raises(UserError, match=r"all\.ark:5: no WAV file starts there\. Make the archive again"):
        sources[2](RATE)
    with pytest.raises(UserError, match=r"none\.ark:4: can ?not be read \(No such file"):
        sources[3](RATE)


def test_commands_run_only_when_they_are_allowed(audio: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    directory = write_lists(
        tmp_path / "data",
        wav_scp=f"r1 touch {witness}; cat {audio}/one.wav |\nr2 echo no tape >&2; false |\n",
        segments="a-1 r1 0.25 0.75\na-2 r2 0 1\n",
        utt2spk="a-1 a\na-2 a\n",
    )
    with pytest.raises(UserError, match=r"(?s)wav\.scp:1: 'touch .* is a command.*If you trust .*--allow-pipes"):
        CORPORA["kaldi"](directory)
    one, two = CORPORA["kaldi"](directory, allow_pipes=True)
    assert not witness.exists()  # listing runs nothing
    np.testing.assert_array_equal(one.source(RATE), read_audio(audio / "one.wav")[4_000:12_000])
    assert witness.exists()
    with pytest.raises(UserError, match=r"echo no tape >&2; false: failed with status 1 \(no tape\)"):
        two.source(RATE)
    (directory / "segments").write_text("a-1 r1 0.25 3\na-2 r1 0 1\n")
    with pytest.raises(UserError, match=r"cat .*one\.wav: has no part from 0\.25 s to 3 s; it is 1\.00 s long"):
        CORPORA["kaldi"](directory, allow_pipes=True)[0].source(RATE)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_an_archive_entry_without_a_length_is_refused(audio: Path, tmp_path: Path, size: int) -> None:
    """Nothing separates its samples from the next entries."""
    wav = bytearray((audio / "one.wav").read_bytes())
    wav[4:8] = size.to_bytes(4, "little")
    (audio / "all.ark").write_bytes(b"a-1 " + wav + b"a-2 " + wav)
    lists = write_lists(tmp_path / "data", wav_scp="a-1 all.ark:4\n", utt2spk="a-1 a\n")
    (recording,) = CORPORA["kaldi"](lists, root=audio)
    with pytest.raises(UserError, match=r"all\.ark:4: its WAV header gives no length .* Make the archive again"):
        recording.source(RATE)


GOOD = {"wav_scp": "a-1 one.wav\n", "utt2spk": "a-1 a\n"}


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"wav_scp": "a-1\n"}, r"wav\.scp:1: only one field; a line holds a name"),
        ({"wav_scp": "a-1 one.wav\na-1 two.wav\n"}, r"wav\.scp:2: 'a-1' is listed twice"),
        ({"wav_scp": "a-1 one.wav\n./a-1 two.wav\n"}, r"wav\.scp:2: 'a-1' is listed twice"),
        ({"wav_scp": "a-1 ../elsewhere.wav\n"}, r"wav\.scp:1: '\.\./elsewhere\.wav' leads out of .*--root DIR"),
        ({"wav_scp": "a-1 /etc/passwd\n"}, r"wav\.scp:1: '/etc/passwd' leads out of .*--root / allows any path"),
        ({"wav_scp": "a-1 /etc/x.ark:7\n"}, r"wav\.scp:1: '/etc/x\.ark' leads out of"),
        ({"utt2spk": "a-1 a\na-2 a\n"}, r"utt2spk: 1 utterance without audio in wav\.scp .*first is 'a-2'"),
        ({"wav_scp": "a-1 one.wav\na-2 two.wav\n"}, "utt2spk: 1 utterance without speaker, the first is 'a-2'"),
        ({"segments": "a-1 r9 0 1\n"}, r"segments:1: recording 'r9' is not in wav\.scp"),
        ({"segments": "a-1 a-1 1 0.5\n"}, "segments:1: the segment from 1 s to 0.5 s must end after its start"),
        ({"segments": "a-1 a-1 nan 2\n"}, "segments:1: the segment from nan s to 2 s"),
        ({"segments": "a-1 a-1 0\n"}, "segments:1: 'a-1 0' is not a recording with its start and end in seconds"),
        ({"spk2gender": "a\n"}, "spk2gender:1: only one field"),
    ],
)
def test_damaged_lists_are_refused_by_line(tmp_path: Path, lists: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CORPORA["kaldi"](write_lists(tmp_path / "data", **(GOOD | lists)))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    directory = write_lists(tmp_path / "data", **GOOD)
    (directory / "wav.scp").write_bytes(b"a-1 \xff.wav\n")
    with pytest.raises(UserError, match=r"wav\.scp: not UTF-8 text"):
        CORPORA["kaldi"](directory)


def test_the_right_folder_is_named(tmp_path: Path) -> None:
    directory = write_lists(tmp_path / "data", **GOOD)
    right = re.escape(str(directory))
    for wrong in (tmp_path, directory / "split4"):
        with pytest.raises(UserError, match=rf"wav\.scp: no such file; a Kaldi data .*There is one in {right}\."):
            CORPORA["kaldi"](wrong)
    with pytest.raises(UserError, match=r"No such folder: nowhere\. --root is the folder of the audio"):
        CORPORA["kaldi"](directory, root="nowhere")


def test_what_a_command_writes_is_bounded_and_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_LARGEST_OUTPUT", 1_000_000)
    with pytest.raises(UserError, match=r"yes a-mark-of-this-test: writes more than 1,000,000 bytes .*Check that"):
        ShellCommand("yes a-mark-of-this-test")(RATE)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [command for command in commands if b"yes\0a-mark-of-this-test" in command]
    with pytest.raises(UserError, match=r"failed with status 3 \(the end\)"):
        ShellCommand("yes noise | head -c 1000000 >&2; echo >&2; echo the end >&2; exit 3")(RATE)
