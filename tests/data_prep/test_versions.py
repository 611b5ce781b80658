"""Versions from MUSAN: the parts of each, and that only seed and id decide it."""

import collections
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import versions as module
from data_prep.manifest import Recording
from data_prep.versions import AUGMENTATIONS, BABBLE_SNR_DB, BABBLE_VOICES, CHAIN, MUSIC_SNR_DB, VersionPlan, versions
from mqmha_jax.errors import UserError

RATE = 16_000
ALL = tuple(AUGMENTATIONS)


def tone(hz: float, seconds: float) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def musan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise near 1 kHz, music near 2 kHz, speech near 3 kHz: a spectrum tells who is there."""
    root = tmp_path_factory.mktemp("musan")
    for kind, hz, seconds in (("noise", 1_000, 0.25), ("music", 2_000, 9.0), ("speech", 3_000, 9.0)):
        for index in range(8):
            path = root / kind / "source" / f"{kind}-{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(hz + 40 * index, seconds), RATE)
    return root


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms")
    for index in range(3):
        response = np.zeros(4_000)
        response[[10, 900 + 300 * index]] = 1.0, 0.6
        soundfile.write(root / f"room{index}.wav", response, RATE)
    return root


def plan(musan: Path, rooms: Path, **changes: object) -> VersionPlan:
    everything = {"names": ALL, "noise": musan, "room_responses": rooms}
    return VersionPlan(**(everything | changes))  # type: ignore[arg-type]


SPEECH = tone(300, 2.0)


def made(plan: VersionPlan, utterance: str = "a/1") -> dict[str, np.ndarray]:
    recording = Recording(utterance=utterance, speaker="a", source=Path("a/1.wav"))
    return {version.attributes["version"]: version.waveform for version in versions(recording, SPEECH, plan)}


def tones_db(added: np.ndarray, low_hz: float) -> np.ndarray:
    """Power of each of the eight tones of a kind against that of the speech."""
    power = 2 * np.abs(np.fft.rfft(added, 2 * RATE)) ** 2 / len(added) ** 2
    bins = [round(2 * (low_hz + 40 * index)) for index in range(8)]
    return 10 * np.log10([power[b - 3 : b + 4].sum() for b in bins] / np.mean(SPEECH**2))


def test_music_is_one_piece_at_its_ratio(musan: Path, rooms: Path) -> None:
    for number in range(4):
        levels = tones_db(made(plan(musan, rooms, names=("music",)), f"a/{number}")["music"] - SPEECH, 2_000)
        present = levels[levels > -30]
        assert len(present) == 1
        assert MUSIC_SNR_DB[0] - 0.2 < -present[0] < MUSIC_SNR_DB[1] + 0.2


def test_babble_is_several_voices_each_at_its_ratio(musan: Path, rooms: Path) -> None:
    counts = set()
    for number in range(8):
        levels = tones_db(made(plan(musan, rooms, names=("babble",)), f"a/{number}")["babble"] - SPEECH, 3_000)
        present = levels[levels > -30]
        counts.add(len(present))
        assert (present < -BABBLE_SNR_DB[0] + 9).all()  # one file may be drawn up to three times here
        assert -present.max() < BABBLE_SNR_DB[1] + 0.2
        assert 1 <= len(present) <= BABBLE_VOICES[1]
    assert len(counts) > 1


def test_noises_follow_one_another_after_a_second(musan: Path, rooms: Path) -> None:
    added = made(plan(musan, rooms, names=("noise",)))["noise"] - SPEECH
    silent = np.abs(added) < 1e-6
    clip, gap = RATE // 4, RATE
    assert silent[clip : clip + gap].all()
    assert np.mean(silent[:clip]) < 0.2  # a tone crosses zero
    assert np.mean(silent[clip + gap : 2 * clip + gap]) < 0.2  # a tone crosses zero


def test_the_chain_draws_each_link_by_its_own_chance(musan: Path, rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: collections.Counter[str] = collections.Counter()

    def counted(name: str) -> module.Augmentation:
        def make(waveform: np.ndarray, rng: np.random.Generator, plan: VersionPlan) -> np.ndarray:
            counts[name] += 1
            return waveform

        return AUGMENTATIONS[name]._replace(make=make)

    for name, _ in CHAIN:
        monkeypatch.setitem(AUGMENTATIONS, name, counted(name))
    number = 1_000
    for index in range(number):
        made(plan(musan, rooms, names=("chain",)), f"a/{index}")
    for name, probability in CHAIN:
        assert counts[name] / number == pytest.approx(probability, abs=0.05)


def test_the_chain_is_its_links_in_order(musan: Path, rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHAIN", tuple((name, 1.0) for name, _ in CHAIN))
    everything = made(plan(musan, rooms, names=("chain",)))["chain"]
    rng = module.random_generator(0, "a/1#chain")
    rng.random(len(CHAIN))
    expected = SPEECH
    for name in ("noise", "music", "babble", "reverb"):
        expected = AUGMENTATIONS[name].make(expected, rng, plan(musan, rooms))
    np.testing.assert_array_equal(everything, expected)


def test_a_copy_does_not_depend_on_other_copies_or_their_order(musan: Path, rooms: Path) -> None:
    together = made(plan(musan, rooms))
    backwards = made(plan(musan, rooms, names=ALL[::-1]))
    for name in ALL:
        alone = made(plan(musan, rooms, names=(name,)))[name]
        np.testing.assert_array_equal(alone, together[name])
        np.testing.assert_array_equal(alone, backwards[name])
    other_seed = made(plan(musan, rooms, seed=1))
    other_name = made(plan(musan, rooms), "a/2")
    for name in ("noise", "music", "babble", "telephone"):  # of three rooms, two ids may draw the same
        assert not np.array_equal(other_seed[name], together[name])
        assert not np.array_equal(other_name[name], together[name])


def test_large_noises_are_not_kept_in_memory(musan: Path, rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Music at 9 s is 288 kB; noise at a quarter of a second is 8 kB."""
    module._read_once.cache_clear()
    made(plan(musan, rooms, names=("music", "babble")))
    assert module._read_once.cache_info().currsize == 0
    made(plan(musan, rooms, names=("noise",)))
    assert module._read_once.cache_info().currsize > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "music",
            r"version 'music' needs music, but .* has no folder 'music'\. Give --noise the folder of MUSAN",
        ),
        ("babble", r"version 'babble' needs speech, but .* has no folder 'speech'"),
        ("chain", r"version 'chain' needs music"),
    ],
)
def test_a_missing_kind_of_noise_is_named(musan: Path, rooms: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(musan / "noise", rooms, names=(name,))  # a plain folder is all noise
    assert "noise" in made(plan(musan / "noise", rooms, names=("noise",)))


def test_music_and_babble_without_a_folder_name_the_option(rooms: Path) -> None:
    for name in ("music", "babble", "chain"):
        with pytest.raises(UserError, match=rf"version '{name}' needs a folder of audio files: give --noise DIR"):
            VersionPlan(names=(name,), room_responses=rooms)
