"""Several directories of shards as one training set."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqmha_jax.config import DataConfig, FbankSpec
from mqmha_jax.data.joined_shards import JoinedShards, TrainingShards, find_training_shards, open_training_shards
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.errors import UserError
from mqmha_jax.types import Batch
from tests.support.tiny import SPEC, tiny_config, write_tiny_shards

ORIGINALS = ("anna", "ben", "cem", "dora")


def write(directory: Path, speakers: dict[str, int], *, spec: FbankSpec = SPEC, first: int = 0) -> str:
    utterances = []
    for name, count in speakers.items():
        for number in range(first, first + count):
            fbank = np.full((30 + number, spec.num_features), len(utterances), np.float16)
            utterances.append(UtteranceFbank(f"{name}/{number}", name, fbank, measures={"power": 1.0 + number}))
    write_shards(directory, utterances, spec=spec, provenance={})
    return str(directory)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("corpora")
    return [
        write(root / "a", {"anna": 3, "ben": 2, "~anna#speed0.9": 3, "~ben#speed0.9": 2}),
        write(root / "b", {"cem": 4, "dora": 1, "~cem#speed0.9": 4, "~dora#speed0.9": 1}),
    ]


def opened(directories: list[str], **options: Any) -> TrainingShards:
    return open_training_shards(DataConfig(train=tuple(directories), **options))


def test_every_utterance_is_that_of_its_directory(corpora: list[str]) -> None:
    shards = opened(corpora)
    assert isinstance(shards, JoinedShards)
    parts = [open_shards(directory) for directory in corpora]
    assert len(shards) == 20
    assert shards.speakers == ORIGINALS + tuple(f"~{name}#speed0.9" for name in ORIGINALS)
    assert shards.utterances == (*parts[0].utterances, *parts[1].utterances)
    assert shards.corpus.tolist() == [0] * 10 + [1] * 10
    for index in range(20):
        part, own = parts[index // 10], index % 10
        assert shards.utterance(index) == part.utterance(own)
        assert shards.speakers[shards.speaker[index]] == part.speakers[part.speaker[own]]
        assert shards.num_frames[index] == part.num_frames[own]
        assert shards.measures["power"][index] == part.measures["power"][own]
        np.testing.assert_array_equal(shards.fbank(index), part.fbank(own))
        np.testing.assert_array_equal(shards.crop(index, 7, 50), part.crop(own, 7, 50))


def test_fine_tuning_keeps_the_classes_at_the_original_speed(corpora: list[str]) -> None:
    whole, original = opened(corpora), opened(corpora, original_speed_only=True)
    assert original.speakers == whole.speakers[:4] == ORIGINALS
    assert len(original) == 10


def test_identity_tells_directories_their_order_and_their_classes(corpora: list[str], tmp_path: Path) -> None:
    identity = opened(corpora).identity()
    assert identity == opened(corpora).identity()
    assert identity["num_speakers"] == 8
    assert identity["num_utterances"] == 20
    assert identity["speakers"] == hashlib.sha256("\0".join(opened(corpora).speakers).encode()).hexdigest()
    other = write(tmp_path / "other", {"cem": 4, "eve": 1})
    for directories in (corpora[::-1], [corpora[0], other]):
        assert opened(directories).identity()["fingerprint"] != identity["fingerprint"]
    assert opened(corpora[:1]).identity() == open_shards(corpora[0]).identity()  # one directory is as ever


def test_a_speaker_of_two_corpora_is_refused_or_joined(corpora: list[str], tmp_path: Path) -> None:
    again = write(tmp_path / "again", {"ben": 2, "eve": 1}, first=5)
    with pytest.raises(UserError, match=r"a and .*again share 1 speaker, e\.g\. 'ben'.*shared_speakers=join"):
        opened([corpora[0], again])
    shards = opened([corpora[0], again], shared_speakers="join")
    assert shards.speakers == ("anna", "ben", "eve", "~anna#speed0.9", "~ben#speed0.9")
    of_ben = [shards.utterance(int(i)) for i in np.flatnonzero(shards.speaker == 1)]
    assert of_ben == ["ben/0", "ben/1", "ben/5", "ben/6"]


def test_the_same_recordings_twice_are_refused(corpora: list[str]) -> None:
    with pytest.raises(UserError, match=r"a and .*a share 10 utterances, e\.g\. 'anna.*corpus_weights"):
        opened([corpora[0], corpora[0]], shared_speakers="join")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ""}, r"data\.train is not set: give the training shards"),
        (
            {"corpus_weights": (1.0, 2.0, 3.0)},
            r"weights has 3 values, and data\.train 2 directories \(.*a, .*b\)",
        ),
        ({"corpus_weights": (1.0,)}, r"weights has 1 value, and data\.train 2 directories"),
    ],
)
def test_options_that_do_not_fit_are_refused(corpora: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_training_shards(DataConfig(**({"train": tuple(corpora)} | options)))


def test_other_features_are_refused(corpora: list[str], tmp_path: Path) -> None:
    other = write(tmp_path / "other", {"eve": 1}, spec=FbankSpec(num_mel_bins=9))
    with pytest.raises(UserError, match=r"training shards in .*other have other features.*num_mel_bins: 8 -> 9"):
        opened([*corpora, other])


def test_shards_elsewhere_are_not_an_error_for_a_plan(corpora: list[str]) -> None:
    assert find_training_shards(DataConfig(train="nowhere")) is None
    assert find_training_shards(DataConfig(train=(corpora[0], "nowhere"))) is None
    found = find_training_shards(DataConfig(train=tuple(corpora)))
    assert found is not None
    assert len(found) == 20


def test_batches_of_several_corpora_are_the_same_in_processes_workers_and_after_a_resume(corpora: list[str]) -> None:
    def take(number: int, *, num_workers: int = 0, first_step: int = 0, rows: range | None = None) -> list[Batch]:
        data = DataConfig(
            train=tuple(corpora),
            batch_size=4,
            crop_frames=20,
            corpus_weights=(1.0, 3.0),
            speaker_exponent=0.5,
            num_workers=num_workers,
        )
        iterator = train_batches(open_training_shards(data), data, seed=1, first_step=first_step, rows=rows)
        try:
            return [next(iterator) for _ in range(number)]
        finally:
            iterator.close()

    whole = take(7)
    for ours, theirs in zip(take(4, num_workers=1, first_step=3), whole[3:], strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])  # type: ignore[literal-required]
    for ours, batch in zip(take(7, rows=range(2, 4)), whole, strict=True):
        np.testing.assert_array_equal(ours["fbank"], batch["fbank"][2:4])
        np.testing.assert_array_equal(ours["speaker"], batch["speaker"][2:4])


@pytest.mark.slow
def test_a_run_on_two_corpora_trains_and_resumes_only_with_the_same(tmp_path: Path) -> None:
    from mqmha_jax.train.loop import train

    first = str(write_tiny_shards(tmp_path / "first", speakers=4))
    second = str(write_tiny_shards(tmp_path / "second", speakers=4, first=4))

    def run(*directories: str, weights: tuple[float, ...] = (1.0, 2.0), steps: int) -> int:
        config = tiny_config({"train": directories, "corpus_weights": weights}, steps=steps)  # type: ignore[dict-item]
        return train(config, tmp_path / "run", progress=False).trained

    assert run(first, second, steps=2) == 2
    with pytest.raises(UserError, match="was trained on other data"):
        run(second, first, steps=3)
    with pytest.raises(UserError, match=r"corpus_weights"):
        run(first, second, weights=(1.0, 1.0), steps=3)
    assert run(first, second, steps=3) == 1


def test_pickling_carries_the_paths(corpora: list[str]) -> None:
    shards = opened(corpora)
    assert len(pickle.dumps(shards)) < 2000
    assert pickle.loads(pickle.dumps(shards)).speakers == shards.speakers
