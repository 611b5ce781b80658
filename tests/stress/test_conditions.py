"""Every condition changes speech as its name says, repeatably, and whatever the length of the recording."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mqmha_jax.errors import UserError
from mqmha_jax.stress import conditions
from mqmha_jax.stress.codecs import Codec
from mqmha_jax.stress.conditions import CLEAN, CONDITIONS, Sound, choose_conditions, explain_absence
from mqmha_jax.stress.surroundings import Surroundings, decaying_room
from tests.support.tiny_run import RATE_HZ, voice

SPEECH = {f"s{s}/0": voice(s, 0, seconds=1.5).astype(np.float32) for s in range(3)}
UTT2SPK = {name: name.partition("/")[0] for name in SPEECH}


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    rooms = tmp_path_factory.mktemp("rooms")
    response = np.zeros(800)
    response[[0, 400]] = 1, 0.5
    soundfile.write(rooms / "echo.wav", response, RATE_HZ)
    return Surroundings(tuple(SPEECH), SPEECH.__getitem__, UTT2SPK, RATE_HZ, rooms=rooms)


def hear(name: str, around: Surroundings, waveform: np.ndarray | None = None, *, seed: int = 0) -> np.ndarray:
    waveform = SPEECH["s0/0"] if waveform is None else waveform
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return CONDITIONS[name].change(Sound(waveform, RATE_HZ, "s0/0", around, rng))


AVAILABLE = [name for name, condition in CONDITIONS.items() if explain_absence(condition, has_rooms=True) is None]
LENGTHS = {"speed-0.9": 1 / 0.9, "speed-1.1": 1 / 1.1, "first-1s": 2 / 3}


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_condition_changes_speech_and_keeps_its_length(name: str, around: Surroundings) -> None:
    clean = SPEECH["s0/0"].copy()
    heard = hear(name, around)
    np.testing.assert_array_equal(SPEECH["s0/0"], clean)
    assert len(heard) == pytest.approx(len(clean) * LENGTHS.get(name, 1), abs=1)
    assert np.isfinite(heard).all()
    np.testing.assert_array_equal(heard, hear(name, around))
    same = len(heard) == len(clean) and np.array_equal(heard, clean)
    assert same == (name in {CLEAN, "first-2s", "first-4s"})
    for short in (clean[:400], np.zeros(800, np.float32)):  # one window; digital silence
        assert np.isfinite(hear(name, around, short)).all()


@pytest.mark.parametrize("snr", [20, 10, 5, 0])
def test_noise_has_its_level_and_the_spectrum_of_the_speech(snr: int, around: Surroundings) -> None:
    clean = SPEECH["s0/0"]
    noise = hear(f"noise-{snr}db", around) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.1)
    low, high = (np.abs(np.fft.rfft(sound)) ** 2 for sound in (noise, np.random.default_rng(0).normal(size=len(noise))))
    quarter = len(low) // 4  # the buzz lies below 2 kHz, where white noise has a quarter of its power
    assert low[:quarter].sum() / low.sum() > 0.8
    assert high[:quarter].sum() / high.sum() < 0.4
    other = hear(f"noise-{snr}db", around, seed=1) - clean
    assert abs(np.corrcoef(noise, other)[0, 1]) < 0.3


def test_noise_of_a_folder_is_that_noise(tmp_path: Path) -> None:
    hum = 0.2 * np.sin(2 * np.pi * 50 * np.arange(4 * RATE_HZ) / RATE_HZ)
    soundfile.write(tmp_path / "hum.wav", hum, RATE_HZ)
    around = Surroundings(tuple(SPEECH), SPEECH.__getitem__, UTT2SPK, RATE_HZ, noise=tmp_path)
    noise = hear("noise-10db", around) - SPEECH["s0/0"]
    spectrum = np.abs(np.fft.rfft(noise))
    assert np.argmax(spectrum) == round(50 * len(noise) / RATE_HZ)


def test_nobody_babbles_behind_himself(around: Surroundings) -> None:
    babble = around.babble(4_000, np.random.default_rng(0), utterance="s0/0")
    pitches = np.fft.rfftfreq(4_000, 1 / RATE_HZ)
    level = np.abs(np.fft.rfft(babble))
    own, others = (level[np.argmin(np.abs(pitches - hz))] for hz in (100, 125))  # of s0, of s1
    assert others > 5 * own
    alone = Surroundings(("s0/0",), SPEECH.__getitem__, UTT2SPK, RATE_HZ)
    with pytest.raises(UserError, match="Babble is made of recordings of other speakers, and there are none"):
        alone.babble(100, np.random.default_rng(0), utterance="s0/0")


def test_echoes_lose_sixty_decibels_in_their_time() -> None:
    response = decaying_room(0.6, RATE_HZ, np.random.default_rng(0))
    assert np.argmax(np.abs(response)) == 0
    assert 10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(10 * np.log10(6), abs=0.1)
    left = 10 * np.log10(np.cumsum(response[:0:-1] ** 2)[::-1])  # Schroeder's backward integral
    slope = (left[len(left) // 2] - left[0]) / 0.3  # dB per second
    assert slope == pytest.approx(-60 / 0.6, rel=0.1)


def test_clipping_and_loss_of_level(around: Surroundings) -> None:
    assert np.mean(np.abs(hear("clipped", around)) == 1) == pytest.approx(0.1, abs=0.01)
    quiet = hear("quiet", around)
    assert np.max(np.abs(quiet)) == pytest.approx(np.max(np.abs(SPEECH["s0/0"])) / 100, rel=0.05)
    np.testing.assert_array_equal(quiet * 2**15, np.round(quiet * 2**15))


def test_what_is_asked_is_chosen_in_the_order_of_the_table() -> None:
    assert [*choose_conditions(())] == [*CONDITIONS]
    assert [*choose_conditions(("first-1s", "level"))] == [CLEAN, "clipped", "quiet", "first-1s"]
    with pytest.raises(UserError, match=r"no 'noise-10'. Did you mean noise-10db\? 'mqmha stress --list' shows all"):
        choose_conditions(("noise-10",))


def test_absent_conditions_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = CONDITIONS["gsm"]._replace(codec=Codec("nocodec", "wav"))
    assert explain_absence(unknown, has_rooms=True) == "this build of PyAV has no encoder nocodec"
    assert "--rooms FOLDER" in str(explain_absence(CONDITIONS["rooms"], has_rooms=False))
    assert explain_absence(CONDITIONS["mulaw"], has_rooms=False) is None
    assert conditions.has_encoder(Codec("pcm_mulaw", "wav"))
