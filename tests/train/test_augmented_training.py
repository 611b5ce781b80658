"""Noise and rooms from files through the pipeline into the step: equal for every host, device and order of rows."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mqmha_jax import parallel
from mqmha_jax.config import AugmentConfig, Config
from mqmha_jax.config_io import from_dict, to_dict, with_overrides
from mqmha_jax.data.noise_and_rooms import KINDS, SILENCE, NoiseAndRooms, open_noise_and_rooms
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.errors import UserError
from mqmha_jax.runs.state import TrainState
from mqmha_jax.train import step as step_module
from mqmha_jax.train.build import Training, build_training
from mqmha_jax.train.loop import train
from tests.support.batches import stop_at
from tests.support.noises import only, write_noises, write_some_rooms
from tests.support.runs import assert_same_run
from tests.support.tiny import SPEC, tiny_config

CROP, CONTEXT = 12, 4
POWER = 0.25


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech of one level with numbered frames; noises; rooms."""
    root = tmp_path_factory.mktemp("augment")
    speech = []
    for index, length in enumerate([5, CROP, CROP + 2, 40] * 4):
        frames = np.tile(np.arange(length, dtype=np.float16)[:, None], (1, SPEC.num_features))
        speech.append(UtteranceFbank(f"u{index}", f"s{index % 8}", frames, measures={"power": POWER}))
    write_shards(root / "speech", speech, spec=SPEC, provenance={})
    write_noises(root / "noise")
    write_noises(root / "plain", kinds=("dog", "rain"))
    write_some_rooms(root / "rooms.npz")
    return root


def config(directory: Path, *overrides: str, noise: str = "noise", rooms: str = "rooms.npz") -> Config:
    """A tiny experiment on these files."""
    options = [
        f"data.train={directory / 'speech'}",
        f"data.crop_frames={CROP}",
        f"augment.noise={directory / noise if noise else ''}",
        f"augment.rooms={directory / rooms if rooms else ''}",
        f"augment.context_frames={CONTEXT}",
        "loss.scale=8",
        "optimizer.name=sgd",
        "optimizer.learning_rate=0.005",
    ]
    return with_overrides(tiny_config({}, evaluate_every=100), [*options, *overrides])


def opened(config: Config) -> NoiseAndRooms | None:
    return open_noise_and_rooms(config.augment, config.fbank, config.train.seed)


def batches(config: Config, number: int, *, first_step: int = 0, rows: range | None = None) -> list[Any]:
    iterator = train_batches(
        open_shards(config.data.train),  # type: ignore[arg-type]  # one directory
        config.data,
        seed=config.train.seed,
        first_step=first_step,
        noise_and_rooms=opened(config),
        rows=rows,
    )
    try:
        return [next(iterator) for _ in range(number)]
    finally:
        iterator.close()


# ---- what is drawn


def slow_noise(shards: FbankShards, drawn: list[tuple[int, float, int]], num_frames: int) -> np.ndarray:
    """Adds the powers of (clip, ratio in dB, first frame), frame by frame."""
    total = np.zeros((num_frames, SPEC.num_features))
    for clip, snr_db, first in drawn:
        frames, power = shards.fbank(clip).astype(np.float64), float(shards.measures["power"][clip])
        for t in range(num_frames):
            total[t] += np.exp(frames[(first + t) % len(frames)]) * (POWER / power) / 10 ** (snr_db / 10)
    return np.log(total)


@pytest.mark.parametrize(("name", "kind"), [("noise", "noise"), ("music", "music"), ("babble", "speech")])
def test_a_noise_is_a_clip_of_its_kind_at_the_chosen_ratio(directory: Path, name: str, kind: str) -> None:
    """Every range is a point, so the level identifies the clip; the test tries every place in every clip."""
    shards = open_shards(directory / "noise")
    ranges = {"noise_snr_db": (7.0, 7.0), "music_snr_db": (7.0, 7.0), "babble_snr_db": (7.0, 7.0)}
    settings = only(**{f"{name}_probability": 1.0}, **ranges, babble_voices=(1, 1))
    noise_and_rooms = NoiseAndRooms(settings, shards, None, seed=0)
    clips = [i for i in range(len(shards)) if shards.speakers[shards.speaker[i]] == kind]
    found = set()
    for example in range(40):
        ours = noise_and_rooms.draw(example, speech_power=POWER, num_frames=16, silent_frames=0)["noise"]
        matches = [
            (clip, first)
            for clip in clips
            for first in range(int(shards.num_frames[clip]))
            if np.allclose(ours, slow_noise(shards, [(clip, 7.0, first)], 16), atol=0.02)
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert {clip for clip, _ in found} == set(clips)
    assert len(found) > 10


def test_voices_of_the_babble_add_up(directory: Path) -> None:
    shards = open_shards(directory / "noise")
    settings = only(babble_probability=1.0, babble_snr_db=(3.0, 3.0), babble_voices=(2, 2))
    one = dataclasses.replace(settings, babble_voices=(1, 1))
    two_voices = NoiseAndRooms(settings, shards, None, seed=0)
    levels = [two_voices.draw(i, speech_power=POWER, num_frames=8, silent_frames=0)["noise"] for i in range(60)]
    alone = [
        NoiseAndRooms(one, shards, None, seed=s).draw(0, speech_power=POWER, num_frames=8, silent_frames=0)["noise"]
        for s in range(200)
    ]
    mean_power = np.mean(np.exp(np.array(levels, np.float64)))
    assert mean_power == pytest.approx(2 * np.mean(np.exp(np.array(alone, np.float64))), rel=0.25)


def test_ratios_fill_their_range_and_follow_the_power_of_the_speech(tmp_path: Path) -> None:
    """With one clip as long as the crop, only the level varies."""
    shards = open_shards(write_noises(tmp_path / "one", kinds=("noise",), clips=1))
    noise_and_rooms = NoiseAndRooms(only(noise_probability=1.0, noise_snr_db=(0.0, 15.0)), shards, None, seed=0)

    def ratio_db(example: int, speech_power: float) -> float:
        drawn = noise_and_rooms.draw(example, speech_power=speech_power, num_frames=10, silent_frames=0)["noise"]
        level = float(np.mean(drawn.astype(np.float64) - shards.fbank(0)))
        return 10 / np.log(10) * (np.log(speech_power / shards.measures["power"][0]) - level)

    ratios = [ratio_db(example, POWER) for example in range(200)]
    assert -0.05 < min(ratios) < 1
    assert 14 < max(ratios) < 15.05
    np.testing.assert_allclose([ratio_db(example, 9 * POWER) for example in range(20)], ratios[:20], atol=0.05)


def test_each_kind_is_drawn_by_its_own_chance_or_one_at_a_time(directory: Path) -> None:
    shards, rooms = open_shards(directory / "noise"), config(directory)
    chances = {"noise_probability": 0.2, "reverb_probability": 0.6}

    def shares(settings: AugmentConfig) -> tuple[float, float, float]:
        noise_and_rooms = opened(dataclasses.replace(rooms, augment=settings))
        assert noise_and_rooms is not None
        drawn = [noise_and_rooms.draw(i, speech_power=POWER, num_frames=6, silent_frames=0) for i in range(1_500)]
        noisy = np.array([(d["noise"] > SILENCE).any() for d in drawn])
        wet = np.array([(d["decay"][1:] > SILENCE).any() for d in drawn])
        return noisy.mean(), wet.mean(), (noisy & wet).mean()

    files = {"noise": str(shards.directory), "rooms": str(directory / "rooms.npz")}
    assert shares(only(**chances, **files)) == pytest.approx((0.2, 0.6, 0.12), abs=0.04)  # type: ignore[arg-type]
    noisy, wet, both = shares(only(**chances, **files, one_at_a_time=True))  # type: ignore[arg-type]
    assert (noisy, wet) == pytest.approx((0.2, 0.6), abs=0.04)
    assert both == 0


def test_folders_without_the_three_names_are_all_noise(directory: Path) -> None:
    shards = open_shards(directory / "plain")
    noise_and_rooms = NoiseAndRooms(only(noise_probability=1.0), shards, None, seed=0)
    drawn = {
        noise_and_rooms.draw(i, speech_power=POWER, num_frames=10, silent_frames=0)["noise"].tobytes()
        for i in range(30)
    }
    assert len(drawn) == 30
    assert not set(KINDS) & set(shards.speakers)


def test_digital_silence_has_no_ratio(directory: Path) -> None:
    shards = open_shards(directory / "noise")
    drawn = NoiseAndRooms(only(noise_probability=1.0), shards, None, seed=0).draw(
        0, speech_power=0.0, num_frames=6, silent_frames=0
    )
    assert (drawn["noise"] == SILENCE).all()


def test_a_decay_is_cut_or_filled_to_the_context(directory: Path) -> None:
    whole = config(directory).augment
    for context in (2, 20):
        noise_and_rooms = opened(
            config(directory, f"augment.context_frames={context}", "augment.reverb_probability=1.0", noise="")
        )
        assert noise_and_rooms is not None
        decay = noise_and_rooms.draw(0, speech_power=POWER, num_frames=9, silent_frames=0)["decay"]
        assert decay.shape == (context + 1, SPEC.num_features)
        assert (decay[6:] == SILENCE).all()  # the file has six frames
        assert (decay[: min(6, context + 1)] > SILENCE).all()
    assert whole.context_frames == CONTEXT


# ---- the pipeline


def test_crops_are_the_same_with_their_context_before_them(directory: Path) -> None:
    plain = batches(config(directory, noise="", rooms=""), 12)
    augmented = batches(config(directory), 12)
    starts = set()
    for dry, wet in zip(plain, augmented, strict=True):
        assert sorted(dry) == ["example", "fbank", "num_frames", "speaker"]
        assert sorted(wet) == ["decay", "example", "fbank", "noise", "num_frames", "speaker"]
        for name in ("example", "num_frames", "speaker"):
            np.testing.assert_array_equal(dry[name], wet[name])
        np.testing.assert_array_equal(dry["fbank"], wet["fbank"][:, CONTEXT:])
        for crop, noise in zip(wet["fbank"][:, :, 0], wet["noise"], strict=True):
            first = int(crop[CONTEXT])
            starts.add(first)
            expected = [first - CONTEXT + i if first - CONTEXT + i >= 0 else SILENCE for i in range(CONTEXT)]
            np.testing.assert_array_equal(crop[:CONTEXT], np.array(expected, np.float16))
            assert (noise[: max(0, CONTEXT - first)] == SILENCE).all()
    assert 0 in starts
    assert max(starts) > CONTEXT


def test_processes_and_the_first_step_change_nothing(directory: Path) -> None:
    whole = batches(config(directory), 5)
    rows = range(config(directory).data.batch_size)
    for own in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        for ours, theirs in zip(batches(config(directory), 3, first_step=2, rows=own), whole[2:], strict=True):
            for name, value in ours.items():
                np.testing.assert_array_equal(value, theirs[name][list(own)])


@pytest.mark.slow
def test_worker_processes_change_nothing(directory: Path) -> None:
    workers = config(directory, "data.num_workers=2")
    for ours, theirs in zip(batches(workers, 5), batches(config(directory), 5), strict=True):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_pickles_for_workers_hold_no_shards(directory: Path) -> None:
    noise_and_rooms = opened(config(directory))
    assert noise_and_rooms is not None
    sent = pickle.dumps(noise_and_rooms)
    again = pickle.loads(sent)
    ours, theirs = (d.draw(3, speech_power=POWER, num_frames=8, silent_frames=2) for d in (noise_and_rooms, again))
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])  # type: ignore[literal-required]
    assert len(sent) < 10_000


# ---- the step


def built(config: Config, devices: int) -> Training:
    mesh = parallel.device_mesh(config.mesh, jax.devices()[:devices])
    return build_training(config, num_speakers=8, mesh=mesh)


def after(training: Training, parts: list[Any], order: np.ndarray | slice = slice(None)) -> TrainState:
    seed = parallel.place_seed(0, training.mesh)
    state = training.init(seed)
    for batch in parts:
        placed = parallel.place_batch({name: value[order] for name, value in batch.items()}, training.mesh)
        state, metrics = training.step(state, placed, seed)
        assert np.isfinite(metrics["loss"])
        assert int(metrics["skipped"]) == 0
    return state


def difference(one: TrainState, other: TrainState) -> float:
    pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


@pytest.mark.slow
def test_devices_and_the_order_of_rows_do_not_matter(directory: Path) -> None:
    parts = batches(config(directory), 3)
    one = built(config(directory), 1)
    assert {name: (s.shape, s.dtype) for name, s in one.batch.items()} == {
        name: (value.shape, value.dtype) for name, value in parts[0].items()
    }
    reference = after(one, parts)
    assert difference(reference, after(built(config(directory), 8), parts)) < 2e-5
    assert difference(reference, after(one, parts, np.array([3, 1, 7, 0, 2, 6, 5, 4]))) < 2e-5
    plain = [{name: p[name] for name in ("example", "num_frames", "speaker")} for p in parts]
    clean = [p | {"fbank": whole["fbank"][:, CONTEXT:]} for p, whole in zip(plain, parts, strict=True)]
    untouched = after(built(config(directory, noise="", rooms=""), 1), clean)
    assert difference(reference, untouched) > 1e-3  # the noise does reach the network


def test_accumulated_parts_take_their_rows_of_everything(directory: Path) -> None:
    settings = config(directory, "optimizer.accumulate=2")
    after(built(settings, 4), batches(settings, 2))


def test_without_augmentation_the_step_is_unchanged(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(directory, noise="", rooms="")

    def program() -> str:
        training = built(settings, 1)
        assert sorted(training.batch) == ["example", "fbank", "num_frames", "speaker"]
        return str(training.step.trace(training.state, training.batch, training.seed).jaxpr)

    ours = program()
    monkeypatch.setattr(step_module, "apply_noise_and_rooms", lambda batch: batch["fbank"])
    assert ours == program()
    assert opened(settings) is None


# ---- runs


def test_an_interrupted_run_resumes_bit_for_bit(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["train.steps=8", "train.checkpoint_every=4"]
    train(config(directory, *options), str(tmp_path / "whole"), progress=False)
    halves = config(directory, *options)
    stop_at(monkeypatch, 4)
    assert not train(halves, tmp_path / "part", progress=False).finished
    monkeypatch.undo()
    assert train(halves, tmp_path / "part", progress=False).finished
    assert_same_run(tmp_path / "part", tmp_path / "whole")

    write_noises(directory / "other", clips=2)
    with pytest.raises(UserError, match=r"augment\.noise: .*noise -> .*other|was trained on other data"):
        train(config(directory, *options, noise="other"), tmp_path / "part", progress=False)


# ---- what does not fit


def test_the_section_survives_json_and_overrides() -> None:
    settings = with_overrides(Config(), ["augment.noise_snr_db=[-5, 5]", "augment.babble_voices=[1, 2]"])
    assert settings.augment.noise_snr_db == (-5.0, 5.0)
    assert from_dict(to_dict(settings)) == settings


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["augment.noise_snr_db=[9, 3]"], r"augment\.noise_snr_db must be a range from low to high, .* is \[9, 3\]"),
        (["augment.babble_voices=[4, 3]"], r"augment\.babble_voices must be a range from low to high"),
        (
            ["augment.one_at_a_time=true"],
            r"at most one kind, but the probabilities add up to 1\.2; lower augment\.\*_probability",
        ),
    ],
)
def test_impossible_settings_are_refused(directory: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(config(directory, *overrides))


@pytest.mark.parametrize("value", ["-0.1", "1.1", '"often"'])
def test_a_probability_is_a_fraction(value: str) -> None:
    with pytest.raises(UserError, match=r"augment\.noise_probability="):
        with_overrides(Config(), [f"augment.noise_probability={value}"])


def test_missing_files_are_named(directory: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a directory of shards: it does not exist"):
        opened(config(directory, noise="nowhere"))
    with pytest.raises(UserError, match=r"No file of rooms .*nowhere\.npz"):
        opened(config(directory, rooms="nowhere.npz"))


def test_a_missing_kind_is_named_with_what_to_do(directory: Path) -> None:
    with pytest.raises(
        UserError, match=r"music_probability is above 0, but .*plain holds no music.*set augment\.music_probability=0"
    ):
        opened(config(directory, noise="plain"))
    quiet = ["augment.music_probability=0", "augment.babble_probability=0"]
    assert opened(config(directory, *quiet, noise="plain")) is not None


def test_noises_and_rooms_of_other_features_are_refused(directory: Path) -> None:
    other = dataclasses.replace(SPEC, low_hz=40.0)
    write_noises(directory / "high", spec=other)
    write_some_rooms(directory / "high.npz", spec=other)
    with pytest.raises(
        UserError, match=r"shards of noises in augment\.noise=.*high have other features .*fbank\.low_hz: 20\.0 -> 40"
    ):
        opened(config(directory, noise="high"))
    with pytest.raises(UserError, match=r"decays in augment\.rooms=.*high\.npz have other features .*fbank\.low_hz"):
        opened(config(directory, rooms="high.npz"))


def test_shards_without_powers_are_refused(directory: Path, tmp_path: Path) -> None:
    frames = np.zeros((30, SPEC.num_features), np.float16)
    write_shards(tmp_path / "old", [UtteranceFbank("u", "noise", frames)], spec=SPEC, provenance={})
    one = {"u": UtteranceFbank("u", "s", frames, measures={"power": 1.0}), "v": UtteranceFbank("v", "s", frames)}
    write_shards(tmp_path / "some", one.values(), spec=SPEC, provenance={})
    quiet = ["augment.music_probability=0", "augment.babble_probability=0"]
    with pytest.raises(UserError, match=r"old do not record the power of their waveforms.*Prepare them again"):
        opened(config(directory, *quiet, f"augment.noise={tmp_path / 'old'}"))
    with pytest.raises(UserError, match=r"some do not record the power"):
        batches(config(directory, f"data.train={tmp_path / 'some'}"), 1)
    assert batches(config(directory, f"data.train={tmp_path / 'some'}", noise=""), 1)  # rooms need no power
