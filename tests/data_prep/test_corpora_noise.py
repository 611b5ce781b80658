"""MUSAN and RIRS_NOISES in miniature, and plain folders instead."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.corpora import CORPORA
from data_prep.corpora.jsonl_list import jsonl_recordings, write_jsonl
from data_prep.corpora.musan import FIRST_CHANNEL, noise_files, noise_recordings, room_files, room_recordings
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio
from tests.support.tiny_audio import RATE, write_all, write_audio

MUSAN = [
    "musan/music/fma/music-fma-0000.wav",
    "musan/noise/free-sound/noise-free-sound-0000.wav",
    "musan/noise/sound-bible/noise-sound-bible-0001.wav",
    "musan/speech/librivox/speech-librivox-0000.wav",
]
ROOMS = [
    "real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_far_angla.wav",
    "real_rirs_isotropic_noises/air_type1_air_binaural_aula_carolina_0_1_30_90_3.wav",
    "simulated_rirs/largeroom/Room001/Room001-00001.wav",
    "simulated_rirs/smallroom/Room012/Room012-00001.wav",
]
NOISES = [
    "pointsource_noises/noise-free-sound-0000.wav",
    "real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1.wav",
]


@pytest.fixture
def musan(tmp_path: Path) -> Path:
    write_all(tmp_path, MUSAN)
    (tmp_path / "musan/noise/free-sound/ANNOTATIONS").write_text("noise-free-sound-0000 car\n")
    return tmp_path / "musan"


@pytest.fixture
def rirs(tmp_path: Path) -> Path:
    write_all(tmp_path / "RIRS_NOISES", ROOMS + NOISES)
    (tmp_path / "RIRS_NOISES/simulated_rirs/largeroom/rir_list").write_text("--rir-id 1 --room-id 1 a.wav\n")
    return tmp_path / "RIRS_NOISES"


def test_musan_by_kind(musan: Path) -> None:
    expected = {
        "noise": [musan.parent / name for name in MUSAN[1:3]],
        "music": [musan.parent / MUSAN[0]],
        "speech": [musan.parent / MUSAN[3]],
    }
    assert noise_files(musan) == expected
    assert noise_files(musan.parent) == expected


def test_a_plain_folder_is_noise(musan: Path) -> None:
    sources = [musan / "noise/free-sound", musan / "noise"]
    assert [len(noise_files(source)["noise"]) for source in sources] == [1, 2]
    assert noise_files(musan / "music") == {"music": [musan.parent / MUSAN[0]]}  # no plain folder


def test_rooms_and_noises_in_one_folder_are_separated(rirs: Path) -> None:
    assert room_files(rirs) == room_files(rirs.parent) == [rirs / name for name in ROOMS]
    assert room_files(rirs / "simulated_rirs") == [rirs / name for name in ROOMS[2:]]
    assert noise_files(rirs) == noise_files(rirs.parent) == {"noise": [rirs / name for name in NOISES]}
    (rirs / "nothing").mkdir()
    with pytest.raises(UserError, match=r"No audio below .*nothing"):
        room_files(rirs / "nothing")


def test_ids_are_paths_so_that_equal_names_in_several_folders_differ(rirs: Path, musan: Path) -> None:
    again = "simulated_rirs/smallroom/Room001/Room001-00001.wav"
    write_all(rirs, (again,))
    assert [one.utterance for one in room_recordings(rirs)] == sorted([*ROOMS, again])
    write_all(musan.parent, ("musan/noise/a/x/1.wav", "musan/noise/b/x/1.wav"))
    ids = [one.utterance for one in noise_recordings(musan)]
    assert len({*ids}) == len(ids)
    assert {"noise/free-sound/noise-free-sound-0000.wav", "noise/a/x/1.wav", "noise/b/x/1.wav"} <= {*ids}


def test_a_manifest_keeps_that_noises_are_no_speech(musan: Path, tmp_path: Path) -> None:
    noises = noise_recordings(musan)
    root = write_jsonl(noises, tmp_path / "noises.jsonl")
    assert jsonl_recordings(tmp_path / "noises.jsonl", root) == noises
    (tmp_path / "noises.jsonl").write_text('{"utterance": "a", "speaker": "b", "path": "c", "is_speech": "no"}\n')
    with pytest.raises(UserError, match=r"noises.jsonl:1: the field 'is_speech' is 'no'; valid: true or false"):
        jsonl_recordings(tmp_path / "noises.jsonl", root)


def test_only_the_first_of_several_microphones_counts(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2_000, 8)).astype(np.float32)
    write_audio(tmp_path / "hall/a.wav", samples)
    (path,) = room_files(tmp_path)
    np.testing.assert_allclose(read_audio(path, RATE, FIRST_CHANNEL), samples[:, 0], atol=4e-5)
    (recording,) = CORPORA["rooms"](tmp_path)
    np.testing.assert_allclose(recording.source(RATE), samples[:, 0], atol=4e-5)
    assert (recording.utterance, recording.speaker) == ("hall/a.wav", "room")


def test_as_corpora_their_speaker_is_the_kind(musan: Path, rirs: Path) -> None:
    recordings = CORPORA["noises"](musan)
    assert {recording.speaker for recording in recordings} == {"noise", "music", "speech"}
    assert "speech/librivox/speech-librivox-0000.wav" in {recording.utterance for recording in recordings}
    assert {recording.speaker for recording in CORPORA["rooms"](rirs)} == {"room"}


def test_messages_say_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such folder: .*Get musan\.tar\.gz from https://www\.openslr\.org/17/"):
        noise_files(tmp_path / "musan")
    with pytest.raises(UserError, match=r"No such folder: .*Get rirs_noises\.zip from https://www\.openslr\.org/28/"):
        room_files(tmp_path / "rirs")
