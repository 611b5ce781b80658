"""Miniatures of data sets of TensorFlow Datasets in ArrayRecord files, read without TensorFlow."""

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from data_prep.corpora import CORPORA
from mqmha_jax.errors import UserError

AUDIO = "tensorflow_datasets.core.features.audio_feature.Audio"
SAMPLES = [np.random.default_rng(index).integers(-(2**15), 2**15, 1_000) for index in range(4)]
ROWS = [{"speaker_id": index % 2, "id": f"u{index}", "chapter_id": 10 + index, "text": "ëf"} for index in range(4)]


def write_data_set(
    directory: Path, audio: tfds.features.FeatureConnector, stored: list, description: Mapping[str, Any] | None
) -> Path:
    """Writes the examples as two files; the description of the audio feature is as TensorFlow Datasets writes it."""
    directory.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "audio": audio,
            "speaker_id": tfds.features.ClassLabel(names=["ann", "bob"]),
            "id": tfds.features.Text(),
            "chapter_id": np.int64,
            "text": tfds.features.Text(),
        }
    )
    for number, half in enumerate((slice(0, 3), slice(3, 4))):
        writer = ArrayRecordWriter(str(directory / f"mini-train.array_record-{number:05d}-of-00002"), "group_size:1")
        for samples, row in zip(stored[half], ROWS[half], strict=True):
            writer.write(features.serialize_example({"audio": samples, **row}))
        writer.close()
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[3, 1],
        num_bytes=1,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=directory, dataset_name="mini", split="train", filetype_suffix="array_record"
        ),
    )
    tfds.folder_dataset.write_metadata(data_dir=directory, features=features, split_infos=[split], check_data=False)
    if description is not None:
        path = directory / "features.json"
        content = json.loads(path.read_text())
        content["featuresDict"]["features"]["audio"] = {"pythonClassName": AUDIO, "audio": description}
        path.write_text(json.dumps(content))
    return directory


INTEGERS = {"shape": {"dimensions": ["-1"]}, "dtype": "int64", "encoding": "none"}


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    tensor = tfds.features.Tensor(shape=(None,), dtype=np.int64)
    return write_data_set(tmp_path / "mini" / "1.0.0", tensor, SAMPLES, INTEGERS | {"sampleRate": "16000"})


def test_examples_are_recordings(data_set: Path) -> None:
    recordings = CORPORA["tfds"](data_set, attribute=["chapter_id", "text"])
    assert [recording.utterance for recording in recordings] == ["u0", "u1", "u2", "u3"]
    assert [recording.speaker for recording in recordings] == ["ann", "bob", "ann", "bob"]
    assert recordings[2].attributes == {"chapter_id": "12", "text": "ëf"}
    for recording, samples in zip(pickle.loads(pickle.dumps(recordings)), SAMPLES, strict=True):
        np.testing.assert_array_equal(recording.source(16_000), (samples / 2**15).astype(np.float32))
    resampled = soxr.resample((SAMPLES[1] / 2**15).astype(np.float32), 16_000, 8_000)
    np.testing.assert_array_equal(recordings[1].source(8_000), resampled)


def test_by_name_and_from_the_folder_around(data_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = CORPORA["tfds"](data_set)
    top = data_set.parent.parent
    assert CORPORA["tfds"]("mini", data_dir=top) == CORPORA["tfds"](data_set.parent) == expected
    monkeypatch.setenv("TFDS_DATA_DIR", str(top))
    assert CORPORA["tfds"]("mini/1.0.0") == expected


def test_other_features_can_be_named(data_set: Path) -> None:
    recordings = CORPORA["tfds"](data_set, speaker="chapter_id", utterance="text", audio="audio", audio_rate_hz=8_000)
    assert [recording.speaker for recording in recordings] == ["10", "11", "12", "13"]
    assert recordings[0].utterance == "ëf"
    assert len(recordings[0].source(16_000)) == 2_000


def test_audio_files_and_floats_of_several_channels(tmp_path: Path) -> None:
    content = io.BytesIO()
    soundfile.write(content, SAMPLES[0].astype(np.int16), 16_000, format="FLAC")
    lazy = {"shape": {"dimensions": ["-1"]}, "dtype": "int64", "encoding": "none", "lazyDecode": True}
    text = tfds.features.Tensor(shape=(), dtype=np.str_)
    files = write_data_set(tmp_path / "files", text, [content.getvalue()] * 4, lazy)
    waveform = CORPORA["tfds"](files)[3].source(16_000)
    np.testing.assert_allclose(waveform, SAMPLES[0] / 2**15, atol=1e-6)

    stereo = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    described = {"shape": {"dimensions": ["-1", "2"]}, "dtype": "float32", "encoding": "none", "sampleRate": "16000"}
    tensor = tfds.features.Tensor(shape=(None, 2), dtype=np.float32)
    floats = write_data_set(tmp_path / "floats", tensor, [stereo] * 4, described)
    np.testing.assert_allclose(CORPORA["tfds"](floats)[0].source(16_000), stereo.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([2**20]), "example 0 of train: its samples are integers of more than 16 bits"),
        (np.array([], np.int64), r"example 0 of train: holds no samples"),
    ],
)
def test_bad_samples_are_named(tmp_path: Path, samples: np.ndarray, message: str) -> None:
    tensor = tfds.features.Tensor(shape=(None,), dtype=np.int64)
    described = INTEGERS | {"sampleRate": "16000"}
    directory = write_data_set(tmp_path / "bad", tensor, [samples, *SAMPLES[1:]], described)
    with pytest.raises(UserError, match=message):
        CORPORA["tfds"](directory)[0].source(16_000)


def test_messages_ask_for_what_cannot_be_guessed(tmp_path: Path) -> None:
    tensor = tfds.features.Tensor(shape=(None,), dtype=np.int64)
    untold = write_data_set(tmp_path / "untold", tensor, SAMPLES, INTEGERS)
    with pytest.raises(UserError, match=r"the sample rate of its feature 'audio' is unknown\. Give it with --audio-"):
        CORPORA["tfds"](untold)
    plain = write_data_set(tmp_path / "plain", tensor, SAMPLES, None)
    with pytest.raises(
        UserError,
        match=r"which feature is the audio is unknown\. Give --audio NAME, one of its features: audio, chapter",
    ):
        CORPORA["tfds"](plain)
    assert len(CORPORA["tfds"](plain, audio="audio", audio_rate_hz=16_000)) == 4
    with pytest.raises(UserError, match=r"there is no feature 'reader'\. Give --speaker NAME"):
        CORPORA["tfds"](untold, audio_rate_hz=8_000, speaker="reader")


def test_other_mistakes_are_named(data_set: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no examples in a split 'test'; valid: train"):
        CORPORA["tfds"](data_set, split="test")
    with pytest.raises(UserError, match=r"No data set nothing: .*tfds build --file_format=array_record"):
        CORPORA["tfds"]("nothing", data_dir=tmp_path)
    info = data_set / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(UserError, match=r"in the format 'tfrecord', which only TensorFlow reads\. Convert them once"):
        CORPORA["tfds"](data_set)
    (data_set / "features.json").write_text("{}")
    info.write_text(info.read_text().replace('"tfrecord"', '"array_record"'))
    with pytest.raises(UserError, match=r"features\.json: not a data set of .*; it has no featuresDict"):
        CORPORA["tfds"](data_set)
    info.write_text("[]")
    with pytest.raises(UserError, match=r"dataset_info\.json holds a list .*, not an object .* TensorFlow Datasets"):
        CORPORA["tfds"](data_set)
    info.write_text("{")
    with pytest.raises(UserError, match=r"dataset_info\.json is not valid JSON .* data set of TensorFlow Datasets"):
        CORPORA["tfds"](data_set)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset_info.json", '{"fileFormat": "array_record", "name": "mini", "splits": 7}'),
        ("dataset_info.json", '{"fileFormat": "array_record", "name": "mini", "splits": [{"shardLengths": ["x"]}]}'),
        ("features.json", '{"featuresDict": {"features": {"audio": []}}}'),
        ("features.json", '{"featuresDict": {"features": {"audio": {"pythonClassName": 1}}}}'),
        ("features.json", '{"featuresDict": [[[]]]}'),
        ("features.json", '{"featuresDict": ' * 100_000),
    ],
)
def test_descriptions_of_another_form_get_a_sentence(name: str, content: str, data_set: Path) -> None:
    (data_set / name).write_text(content)
    with pytest.raises(UserError, match=r"Copy or prepare the data set again|Give --audio"):
        CORPORA["tfds"](data_set)


def test_damage_is_named(data_set: Path) -> None:
    path = data_set / "mini-train.array_record-00000-of-00002"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"(?s)example 0 can ?not be read \(.*mismatch.*\); copy or prepare the data set"
    ):
        CORPORA["tfds"](data_set)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"one of mini-train\.array_record-00000-of-00002, .* is cut off or damaged"):
        CORPORA["tfds"](data_set)
    path.write_bytes((data_set / "mini-train.array_record-00001-of-00002").read_bytes())
    with pytest.raises(UserError, match="2 of 4 examples of the split 'train' are there; copy or prepare"):
        CORPORA["tfds"](data_set)


def test_a_missing_file_is_named(data_set: Path) -> None:
    (data_set / "mini-train.array_record-00001-of-00002").unlink()
    with pytest.raises(UserError, match="1 of 2 files of the split 'train' are there; copy or prepare"):
        CORPORA["tfds"](data_set)
