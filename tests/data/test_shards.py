"""Shards: they return what was written, a writer completes them or leaves nothing, and readers name damage."""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource

from mqmha_jax.config import FbankSpec
from mqmha_jax.data import shard_file as file_module
from mqmha_jax.data.shard_directory import complete_directory
from mqmha_jax.data.shard_file import ShardFileWriter
from mqmha_jax.data.shard_format import FORMAT_VERSION, SEGMENT_FRAMES, shard_path
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.data.shard_writer import ShardWriter, UtteranceFbank, shard_writer, write_shards
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import write_sealed_json
from tests.support.flips import flip_each, refusal_of

SPEC = FbankSpec(num_mel_bins=4)
# Around the record length, and down to a single frame.
LENGTHS = [1, SEGMENT_FRAMES - 1, SEGMENT_FRAMES, SEGMENT_FRAMES + 1, 3 * SEGMENT_FRAMES, 725, 30]


def corpus(prefix: str = "utterance") -> list[UtteranceFbank]:
    rng = np.random.default_rng(0)
    return [
        UtteranceFbank(
            utterance=f"{prefix}é/{number}.wav",
            speaker=f"speaker{number % 3}",
            fbank=rng.normal(10, 4, (length, SPEC.num_features)).astype(np.float32),
            attributes={"session": f"s{number % 2}"} if number else {},
        )
        for number, length in enumerate(LENGTHS)
    ]


def write(directory: Path, utterances: list[UtteranceFbank] | None = None) -> Path:
    write_shards(directory, utterances or corpus(), spec=SPEC, provenance={"corpus": "test"}, records_per_shard=5)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shards") / "written")


@pytest.fixture(scope="module")
def shards(directory: Path) -> FbankShards:
    return open_shards(directory)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Shards that a test may damage."""
    return write(tmp_path / "copy")


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_everything_reads_back(shards: FbankShards) -> None:
    written = corpus()
    assert len(shards) == len(written)
    assert shards.spec == SPEC
    assert shards.provenance == {"corpus": "test"}
    assert shards.speakers == ("speaker0", "speaker1", "speaker2")
    assert shards.utterances == tuple(utterance.utterance for utterance in written)
    assert shards.num_frames.tolist() == LENGTHS
    assert [shards.speakers[speaker] for speaker in shards.speaker] == [utterance.speaker for utterance in written]
    assert shards.attributes["session"].tolist() == ["", "s1", "s0", "s1", "s0", "s1", "s0"]
    for index, utterance in enumerate(written):
        np.testing.assert_array_equal(shards.fbank(index), utterance.fbank.astype(np.float16))


def test_a_crop_is_a_slice_of_the_repeated_utterance(shards: FbankShards) -> None:
    for index, length in enumerate(LENGTHS):
        whole = shards.fbank(index)
        for first in {0, length // 2, length - 1, max(0, length - SEGMENT_FRAMES)}:
            for num_frames in (1, 30, SEGMENT_FRAMES, 2 * SEGMENT_FRAMES + 7):
                reference = np.stack([whole[frame % length] for frame in range(first, first + num_frames)])
                np.testing.assert_array_equal(shards.crop(index, first, num_frames), reference)


def test_a_crop_reads_only_the_records_it_lies_in(shards: FbankShards, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = ArrayRecordDataSource.__getitem__
    monkeypatch.setattr(ArrayRecordDataSource, "__getitem__", lambda self, key: read.append(key) or original(self, key))
    longest = LENGTHS.index(725)
    first_record = sum(-(-length // SEGMENT_FRAMES) for length in LENGTHS[:longest])
    for first, num_frames, segments in [(0, 200, [0]), (200, 200, [1]), (199, 2, [0, 1]), (300, 200, [1, 2])]:
        read.clear()
        shards.crop(longest, first, num_frames)
        assert [record - first_record for record in read] == segments


def test_pickling_carries_only_the_path(shards: FbankShards) -> None:
    pickled = pickle.dumps(shards)
    assert len(pickled) < 500
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.crop(4, 390, 50), shards.crop(4, 390, 50))


def test_tensorflow_datasets_opens_the_directory_without_tensorflow_and_jax(directory: Path, tmp_path: Path) -> None:
    program = """
import sys
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec  # from here on both seem not to be installed
PathFinder.find_spec = lambda name, *rest: None if name in ("tensorflow", "jax") else find_spec(name, *rest)
import numpy as np
import tensorflow_datasets as tfds
records = tfds.builder_from_directory(sys.argv[1]).as_data_source("train")
fields = {name: [record[name] for record in records] for name in ("utterance", "speaker", "first_frame")}
np.savez(sys.argv[2], fbank=np.concatenate([record["fbank"] for record in records]), **fields)
"""
    subprocess.run([sys.executable, "-c", program, str(directory), str(tmp_path / "seen.npz")], check=True)
    seen = np.load(tmp_path / "seen.npz")
    written = corpus()
    np.testing.assert_array_equal(seen["fbank"], np.concatenate([u.fbank for u in written]).astype(np.float16))
    places = [(u, first) for u in written for first in range(0, len(u.fbank), SEGMENT_FRAMES)]
    assert [text.decode() for text in seen["utterance"]] == [u.utterance for u, _ in places]
    assert [text.decode() for text in seen["speaker"]] == [u.speaker for u, _ in places]
    assert seen["first_frame"].tolist() == [first for _, first in places]


def test_data_worker_code_needs_no_jax() -> None:
    program = """
import sys
sys.modules["jax"] = None
import mqmha_jax.data.shard_writer, mqmha_jax.data.train_pipeline, mqmha_jax.data.eval_pipeline
import data_prep.cli  # what a spawned worker of the preparation imports
"""
    subprocess.run([sys.executable, "-c", program], check=True, stderr=subprocess.DEVNULL)


def test_the_same_utterances_give_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    assert files_of(write(tmp_path / "again")) == files_of(directory)


def test_identity_tells_data_and_classes_apart(shards: FbankShards, tmp_path: Path) -> None:
    renamed = [utterance._replace(speaker=utterance.speaker.upper()) for utterance in corpus()]
    changed = [utterance._replace(fbank=utterance.fbank + 1) for utterance in corpus()]
    same, other_speakers, other_frames = (
        open_shards(write(tmp_path / name, utterances)).identity()
        for name, utterances in {"same": corpus(), "renamed": renamed, "changed": changed}.items()
    )
    assert same == shards.identity()
    assert other_speakers["speakers"] != same["speakers"]
    assert other_frames["fingerprint"] != same["fingerprint"]
    assert other_frames["speakers"] == same["speakers"]


def test_a_key_sets_the_order_of_the_classes(tmp_path: Path) -> None:
    with shard_writer(tmp_path / "shards", spec=SPEC, provenance={}, speaker_key=lambda name: -int(name[-1])) as writer:
        for utterance in corpus():
            writer.add(utterance)
    shards = open_shards(tmp_path / "shards")
    assert shards.speakers == ("speaker2", "speaker1", "speaker0")
    assert [shards.speakers[speaker] for speaker in shards.speaker] == [utterance.speaker for utterance in corpus()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda u: u._replace(utterance=corpus()[0].utterance), r"'utteranceé/0.wav' appears twice"),
        (lambda u: u._replace(fbank=u.fbank[:, :3]), r"shape \(199, 3\); the filterbank gives \(T, 4\)"),
        (lambda u: u._replace(fbank=u.fbank[:0]), r"shape \(0, 4\).*at least one frame"),
        (lambda u: u._replace(fbank=np.where(u.fbank > 12, np.float32(np.nan), u.fbank)), "not finite"),
        (lambda u: u._replace(fbank=u.fbank.astype(np.float16) * np.float16(np.inf)), "not finite"),
        (lambda u: u._replace(speaker="\udce9"), "not valid UTF-8"),
    ],
)
def test_bad_utterances_are_refused_by_name(
    change: Callable[[UtteranceFbank], UtteranceFbank], message: str, tmp_path: Path
) -> None:
    utterances = corpus()
    utterances[1] = change(utterances[1])
    with pytest.raises(UserError, match=message):
        write(tmp_path / "shards", utterances)
    assert not list(tmp_path.iterdir())


def test_no_utterances_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no utterances to write"):
        write_shards(tmp_path / "shards", [], spec=SPEC, provenance={})
    assert not list(tmp_path.iterdir())


def test_a_taken_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(UserError, match="already exists"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file/shards cannot be written \(File exists\)\. Give another directory"):
        write(tmp_path / "file" / "shards")


def test_what_a_killed_writer_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    (tmp_path / ".partial-0badf00d-shards" / "inner").mkdir(parents=True)
    with contextlib.suppress(KeyError), shard_writer(tmp_path / "shards", spec=SPEC, provenance={}) as writer:
        (unfinished,) = tmp_path.iterdir()
        writer.add(corpus()[0])
        write(tmp_path / "shards")
        assert {path.name for path in tmp_path.iterdir()} == {unfinished.name, "shards"}
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
    assert len(open_shards(tmp_path / "shards")) == len(LENGTHS)


def test_a_missing_recording_is_not_called_a_full_disk(tmp_path: Path) -> None:
    def utterances() -> Iterator[UtteranceFbank]:
        yield corpus()[0]
        (tmp_path / "recording.wav").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"recording\.wav"):
        write_shards(tmp_path / "shards", utterances(), spec=SPEC, provenance={})
    assert not list(tmp_path.iterdir())


def test_an_exception_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[UtteranceFbank]:
        yield from corpus()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "shards", interrupted(), spec=SPEC, provenance={})
    assert not list(tmp_path.iterdir())


def disk_full_at_third_write(monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer(file_module.ArrayRecordWriter):  # type: ignore[misc]
        num_writes = 0

        def write(self, record: bytes) -> None:
            self.num_writes += 1
            if self.num_writes == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(record)

    monkeypatch.setattr(file_module, "ArrayRecordWriter", Writer)


def disk_full_under_array_record(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    monkeypatch.setattr(ShardWriter, "_growing_path", lambda self, index: Path("/dev/full"))


def disk_full_at_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def savez(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", savez)


@pytest.mark.parametrize("fill", [disk_full_at_third_write, disk_full_under_array_record, disk_full_at_metadata])
def test_a_full_disk_leaves_nothing_and_says_what_to_do(
    fill: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(monkeypatch)
    with pytest.raises(UserError, match=r"disk is full.*has .* MB left.*is removed again.*Free some space"):
        write(tmp_path / "shards")
    assert not list(tmp_path.iterdir())


def test_another_error_of_the_disk_is_not_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(PermissionError):
        write(tmp_path / "shards")


def flip_byte(path: Path, position: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 0xFF
    path.write_bytes(damaged)


def test_a_damaged_record_is_named_and_the_others_stay_readable(copy: Path) -> None:
    file = copy / "fbank-train.array_record-00001-of-00003"
    flip_byte(file, 100)
    shards = open_shards(copy)
    first_in_file = LENGTHS.index(3 * SEGMENT_FRAMES)  # records 0..4 of file 0 are utterances 0 to 3
    with pytest.raises(UserError, match=r"Record 0 of .*00001-of-00003 cannot be read: .*copy it again"):
        shards.fbank(first_in_file)
    np.testing.assert_array_equal(shards.fbank(1), corpus()[1].fbank.astype(np.float16))
    with pytest.raises(
        UserError, match=r"1 of the files .* differ from what was written: fbank-train.*00001-of-00003\."
    ):
        shards.verify()


def test_verify_accepts_what_was_written(shards: FbankShards) -> None:
    shards.verify()


def test_a_file_of_other_shards_is_noticed(copy: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", corpus(prefix="different"))
    name = "fbank-train.array_record-00000-of-00003"
    assert (other / name).stat().st_size == (copy / name).stat().st_size
    (copy / name).write_bytes((other / name).read_bytes())
    with pytest.raises(UserError, match=r"Record 0 of .*starts at.*differenté/0.wav.*not at.*utteranceé/0.wav"):
        open_shards(copy).fbank(0)


def truncate(directory: Path) -> None:
    file = directory / "fbank-train.array_record-00002-of-00003"
    file.write_bytes(file.read_bytes()[:1000])


def remove_a_file(directory: Path) -> None:
    (directory / "fbank-train.array_record-00000-of-00003").unlink()


def edit_info(**changes: object) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        path = directory / "shards.json"
        content = json.loads(path.read_text()) | changes
        content.pop("content_sha256")
        write_sealed_json(path, content)

    return edit


def change_info(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Changes shards.json without its checksum."""

    def edit(directory: Path) -> None:
        path = directory / "shards.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def pickle_in_the_table(directory: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (directory / "executed",)

    objects = np.empty(1, object)
    objects[0] = Harm()
    np.savez(directory / "utterances.npz", speaker=objects)
    edit_info(table_sha256=hashlib.sha256((directory / "utterances.npz").read_bytes()).hexdigest())(directory)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"00002-of-00003 has 1000 bytes; \d+ were written.*truncated"),
        (remove_a_file, r"00000-of-00003 has 0 bytes.*missing"),
        (
            edit_info(format_version=FORMAT_VERSION + 1),
            r"format version 4; this program reads versions up to 3.*Update",
        ),
        (
            change_info(lambda info: info["speakers"].append(info["speakers"].pop(0))),
            r"shards\.json differs from what was written: its checksum does not match\. Copy it again",
        ),
        (change_info(lambda info: info["fbank"].update(window="povey")), "its checksum does not match"),
        (change_info(lambda info: info.pop("content_sha256")), "its checksum does not match"),
        (
            change_info(lambda info: info.update(format_version=2)),
            r"shards\.json is damaged \(content_sha256: Extra inputs",
        ),
        (edit_info(speakers=["same", "same", "same"]), "do not belong together"),
        (lambda directory: (directory / "shards.json").write_text("[" * 100_000), "nested too deeply"),
        (edit_info(speakers=["only"]), "do not belong together"),
        (edit_info(segment_frames="long"), r"shards.json is damaged \(segment_frames: .*valid integer"),
        (lambda directory: (directory / "shards.json").write_text("{"), "shards.json is not valid JSON"),
        (lambda directory: (directory / "shards.json").unlink(), "is not a directory of shards: it has no shards.json"),
        (lambda directory: flip_byte(directory / "utterances.npz", 60), "utterances.npz is missing or differs"),
        (pickle_in_the_table, r"utterances\.npz is damaged, or is no \.npz file of arrays \(it holds Python objects\)"),
    ],
)
def test_damage_is_noticed_on_opening(damage: Callable[[Path], None], message: str, copy: Path) -> None:
    damage(copy)
    with pytest.raises(UserError, match=message):
        open_shards(copy)
    assert not (copy / "executed").exists()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a directory of shards: it does not exist"):
        open_shards(tmp_path / "nowhere")


def with_speeds() -> list[UtteranceFbank]:
    """Each utterance at two speeds, in mixed order; the copies are speakers of their own."""
    fast = [
        item._replace(utterance=f"{item.utterance}#speed1.1", speaker=f"{item.speaker}#speed1.1", fbank=item.fbank + 1)
        for item in corpus()
    ]
    return [item for pair in zip(corpus(), fast, strict=True) for item in pair]


def test_the_original_speed_is_the_corpus_without_its_copies(tmp_path: Path) -> None:
    with shard_writer(
        tmp_path / "both", spec=SPEC, provenance={}, speaker_key=lambda speaker: ("#speed" in speaker, speaker)
    ) as writer:
        for utterance in with_speeds():
            writer.add(utterance)
    everything = open_shards(tmp_path / "both")
    original = open_shards(tmp_path / "both", original_speed_only=True)
    assert (len(everything), len(everything.speakers)) == (2 * len(LENGTHS), 6)
    assert original.speakers == ("speaker0", "speaker1", "speaker2")
    for shards in (original, pickle.loads(pickle.dumps(original))):
        assert len(shards) == len(LENGTHS)
        for index, item in enumerate(corpus()):
            assert shards.utterance(index) == item.utterance
            assert shards.speakers[shards.speaker[index]] == item.speaker
            assert shards.attributes["session"][index] == item.attributes.get("session", "")
            np.testing.assert_array_equal(shards.fbank(index), item.fbank.astype(np.float16))
    assert original.identity() != everything.identity()


def test_shards_in_a_bucket_are_read_by_the_same_code(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that is a local folder: small files come through fsspec, records through array_record's own reader."""
    from etils.epath import backend
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    class Bucket(DirFileSystem):
        def _join(self, path: str) -> str:
            return super()._join(path.removeprefix("gs://bucket").strip("/"))

    monkeypatch.setattr(
        type(backend.fsspec_backend), "_get_filesystem", lambda self, name: Bucket(str(directory), LocalFileSystem())
    )
    opened: list[str] = []

    def records_of_a_bucket(files: list) -> ArrayRecordDataSource:
        opened.extend(file.filename for file in files)
        local = [file._replace(filename=str(directory / Path(file.filename).name)) for file in files]
        return ArrayRecordDataSource(local)

    monkeypatch.setattr("array_record.python.array_record_data_source.ArrayRecordDataSource", records_of_a_bucket)
    np.testing.assert_array_equal(open_shards("gs://bucket").fbank(5), corpus()[5].fbank.astype(np.float16))
    assert opened
    assert all(name.startswith("gs://bucket/") for name in opened)


# ---- any changed bit


def flip_everywhere(directory: Path, per_file: int) -> int:
    """Counts refused flips; all others must change no frame and no name."""
    written = [read_everything(directory)]

    def check() -> None:
        now = read_everything(directory)
        assert now[1:] == written[0][1:]
        for ours, theirs in zip(now[0], written[0][0], strict=True):
            np.testing.assert_array_equal(ours, theirs)

    refused = 0
    for number, path in enumerate(sorted(directory.iterdir())):
        size = path.stat().st_size
        for _ in flip_each(path, random.Random(number).sample(range(size), min(per_file, size))):
            refusal = refusal_of(check)
            assert refusal is None or str(directory) in refusal
            refused += refusal is not None
    return refused


def read_everything(directory: Path) -> tuple[Any, ...]:
    shards = open_shards(directory)
    frames = [shards.fbank(index) for index in range(len(shards))]
    attributes = {name: values.tolist() for name, values in shards.attributes.items()}
    return frames, shards.utterances, shards.speakers, shards.speaker.tolist(), shards.spec, attributes


def test_a_changed_bit_is_refused_or_changes_nothing(copy: Path) -> None:
    assert flip_everywhere(copy, 40) > 60


@pytest.mark.slow
def test_a_changed_bit_anywhere_is_refused_or_changes_nothing(copy: Path) -> None:
    assert flip_everywhere(copy, 3000) > 100


# ---- versions of the format, and files without records


def test_shards_of_the_first_version_are_read(copy: Path) -> None:
    """Version 1 had no measures, codings or jobs."""
    path = copy / "shards.json"
    info = json.loads(path.read_text())
    for name in ("measures", "coding", "job", "content_sha256"):
        info.pop(name)
    path.write_text(json.dumps(info | {"format_version": 1}))
    shards = open_shards(copy)
    assert shards.measures == {}
    np.testing.assert_array_equal(shards.fbank(5), corpus()[5].fbank.astype(np.float16))


def test_speakers_exchanged_in_shards_of_the_second_version_are_found_in_the_records(copy: Path) -> None:
    """Their shards.json has no checksum of its own, but every record names its speaker."""
    path = copy / "shards.json"
    info = json.loads(path.read_text())
    info.pop("content_sha256")
    path.write_text(json.dumps(info | {"format_version": 2}))
    assert len(open_shards(copy).fbank(5)) == 725
    path.write_text(json.dumps(info | {"format_version": 2, "speakers": ["speaker1", "speaker2", "speaker0"]}))
    with pytest.raises(UserError, match=r"starts at.*'speaker2', 0\), not at .*'speaker0', 0\)"):
        open_shards(copy).fbank(5)


def test_a_file_without_records_is_read(tmp_path: Path) -> None:
    """A preparation may reject all recordings of a piece."""
    tables, files, lengths = [], [], (0, 3, 0, 2, 0)
    for index, count in enumerate(lengths):
        writer = ShardFileWriter(shard_path(tmp_path, index, len(lengths)), SPEC)
        for number in range(count):
            writer.add(corpus()[3]._replace(utterance=f"{index}-{number}"))
        file, table = writer.close()
        files.append(file)
        tables.append(table)
    complete_directory(tmp_path, files, tables, spec=SPEC, coding="float16", provenance={})
    shards = open_shards(tmp_path)
    assert len(shards) == 5
    for index in range(5):
        np.testing.assert_array_equal(shards.fbank(index), corpus()[3].fbank.astype(np.float16))
    import tensorflow_datasets as tfds

    records = tfds.builder_from_directory(tmp_path).as_data_source("train")
    assert [record["utterance"].decode() for record in records][::2] == list(shards.utterances)


def test_tables_of_files_with_other_columns_and_speakers_become_one(tmp_path: Path) -> None:
    rows = [
        UtteranceFbank("a", "z", corpus()[0].fbank, {"room": "hall"}, {"snr_db": 1.0}),
        UtteranceFbank("b", "y", corpus()[0].fbank),
        UtteranceFbank("c", "z", corpus()[0].fbank, {"room": "attic", "floor": "3"}, {"power": 2.0}),
    ]
    write_shards(tmp_path / "out", rows, spec=SPEC, provenance={}, records_per_shard=1)
    shards = open_shards(tmp_path / "out")
    assert len(shards.info.files) == 3
    assert shards.speakers == ("y", "z")
    assert shards.speaker.tolist() == [1, 0, 1]
    assert shards.attributes["room"].tolist() == ["hall", "", "attic"]
    assert shards.attributes["floor"].tolist() == ["", "", "3"]
    with pytest.raises(UserError, match="'b' appears twice"):
        write_shards(tmp_path / "twice", [*rows, rows[1]], spec=SPEC, provenance={}, records_per_shard=1)
