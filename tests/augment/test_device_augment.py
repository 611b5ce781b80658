"""Noise and rooms on mel powers: against loops, against waveforms, and as files."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from data_prep.room_command import room_table
from data_prep.rooms import make_rooms
from mqmha_jax.augment import waveform
from mqmha_jax.augment.mel_power import add_noise, apply_noise_and_rooms, reverberate
from mqmha_jax.augment.room_decay import room_decays
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.noise_and_rooms import SILENCE
from mqmha_jax.data.room_table import read_rooms, write_rooms
from mqmha_jax.errors import UserError
from mqmha_jax.features.fbank import FLOOR, extract_fbank
from tests.support.noises import write_some_rooms

RATE = 16_000
SPEC = FbankSpec(use_energy=True)


def white(num_samples: int, seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def decaying(seed: int, *, reverberation_s: float = 0.4) -> np.ndarray:
    """A direct path after 5 ms and a tail of noise 60 dB down after so long, as strong as the direct path in all."""
    time = np.arange(int(reverberation_s * RATE)) / RATE
    tail = np.random.default_rng(seed).standard_normal(len(time)) * 10 ** (-3 * time / reverberation_s)
    response = np.concatenate([np.zeros(80), tail / np.sqrt(np.sum(tail**2))])
    response[80] = 1.0
    return response.astype(np.float32)


def centred(fbank: np.ndarray) -> np.ndarray:
    return fbank - fbank.mean(axis=0, keepdims=True)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


# ---- the two operations


def test_noise_is_a_sum_of_powers_and_silence_adds_nothing() -> None:
    rng = np.random.default_rng(0)
    fbank, noise = rng.normal(scale=8, size=(2, 3, 5, 4)).astype(np.float16)
    noise[0, 0, 0] = SILENCE
    mixed = add_noise(jnp.asarray(fbank), jnp.asarray(noise))
    assert mixed.dtype == jnp.float32
    for place in np.ndindex(fbank.shape):
        expected = np.log(np.exp(float(fbank[place])) + np.exp(float(noise[place])))
        assert float(mixed[place]) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    np.testing.assert_array_equal(mixed[0, 0, 0], fbank[0, 0, 0].astype(np.float32))


def test_reverberation_is_the_sum_over_earlier_frames() -> None:
    rng = np.random.default_rng(0)
    fbank = rng.normal(scale=5, size=(2, 9, 3)).astype(np.float16)
    fbank[1, :2] = SILENCE
    decay = (-rng.exponential(2, size=(2, 4, 3))).astype(np.float16)
    wet = np.asarray(reverberate(jnp.asarray(fbank), jnp.asarray(decay)))
    assert wet.shape == (2, 6, 3)
    for b, t, f in np.ndindex(wet.shape):
        terms = [np.exp(float(fbank[b, 3 + t - k, f]) + float(decay[b, k, f])) for k in range(4)]
        assert wet[b, t, f] == pytest.approx(np.log(max(sum(terms), FLOOR)), rel=1e-5, abs=1e-5)


def test_no_room_is_no_change_to_the_bit_of_float16() -> None:
    fbank = np.random.default_rng(0).normal(scale=6, size=(1, 7, 3)).astype(np.float16)
    decay = np.full((1, 3, 3), SILENCE)
    decay[:, 0] = 0
    dry = reverberate(jnp.asarray(fbank), jnp.asarray(decay))
    np.testing.assert_array_equal(np.asarray(dry).astype(np.float16), fbank[:, 2:])


def test_weak_frames_beside_loud_ones_keep_their_digits() -> None:
    """90 dB apart: a convolution through a Fourier transform in float32 would drown the weak band's frames."""
    fbank = np.full((1, 8, 1), 20.0, np.float32)
    fbank[0, 4:] = -0.7
    decay = np.array([0.0, -30.0, -60.0], np.float32).reshape(1, 3, 1)
    wet = np.asarray(reverberate(jnp.asarray(fbank), jnp.asarray(decay)), np.float64)[0, :, 0]
    power = np.exp(fbank[0, :, 0].astype(np.float64))
    expected = np.log(power[2:] + power[1:-1] * np.exp(-30) + power[:-2] * np.exp(-60))
    np.testing.assert_allclose(wet, expected, rtol=1e-5)


def test_noise_comes_before_the_room_and_nothing_is_nothing() -> None:
    rng = np.random.default_rng(0)
    fbank, noise = (jnp.asarray(x, jnp.float16) for x in rng.normal(size=(2, 2, 6, 3)))
    decay = jnp.asarray(-rng.exponential(1, size=(2, 3, 3)), jnp.float16)
    assert apply_noise_and_rooms({"fbank": fbank}) is fbank
    both = apply_noise_and_rooms({"fbank": fbank, "noise": noise, "decay": decay})
    np.testing.assert_array_equal(both, reverberate(add_noise(fbank, noise), decay))
    np.testing.assert_array_equal(apply_noise_and_rooms({"fbank": fbank, "noise": noise}), add_noise(fbank, noise))


# ---- against waveforms


@pytest.mark.parametrize("snr_db", [0.0, 15.0])
def test_noise_has_the_level_that_it_has_on_the_waveform(snr_db: float) -> None:
    """In the mean over time of the power of every wide band, which the phases of the two sounds leave alone."""
    speech, noise = white(3 * RATE, 1), white(3 * RATE, 2)
    true = extract_fbank(waveform.add_noise(speech, noise, snr_db, np.random.default_rng(0)), SPEC)
    gain = np.log(np.mean(speech**2) / np.mean(noise**2)) - snr_db * np.log(10) / 10
    clean, added = extract_fbank(speech, SPEC), extract_fbank(noise, SPEC) + np.float32(gain)
    ours = add_noise(jnp.asarray(clean[None]), jnp.asarray(added[None]))[0]
    ratio = np.exp(np.asarray(ours)).mean(axis=0) / np.exp(true).mean(axis=0)
    np.testing.assert_allclose(ratio[40:], 1, atol=0.1)
    assert ratio[40:].mean() == pytest.approx(1, abs=0.02)


def test_a_room_on_powers_is_near_the_room_on_the_waveform() -> None:
    bursts = white(2 * RATE, 1) * np.repeat(np.random.default_rng(0).integers(0, 2, 20), RATE // 10)
    bursts += 1e-4 * white(2 * RATE, 2)
    response = decaying(3)
    dry = extract_fbank(bursts.astype(np.float32), SPEC)
    true = extract_fbank(waveform.reverberate(bursts.astype(np.float32), response), SPEC)
    decay = room_decays([response], SPEC, num_frames=61)
    padded = np.pad(dry, ((60, 0), (0, 0)), constant_values=float(SILENCE))
    ours = np.asarray(reverberate(jnp.asarray(padded[None]), jnp.asarray(decay)))[0]
    error, nothing = rms(centred(ours) - centred(true)), rms(centred(dry) - centred(true))
    assert error < 0.8
    assert nothing > 4 * error


# ---- rooms


def test_a_single_path_decays_at_once() -> None:
    delayed = np.zeros(300)
    delayed[123] = -0.7
    decay = room_decays([np.ones(1), delayed], SPEC, num_frames=5)
    assert decay.shape == (2, 5, 81)
    np.testing.assert_allclose(decay[1], decay[0], atol=1e-3)
    power = np.exp(decay[0])
    np.testing.assert_allclose(power.sum(axis=0), 1, atol=1e-3)
    assert (power[0, 10:] > 0.999).all()


def test_a_hop_that_is_no_whole_number_of_samples_is_cut_as_in_the_filterbank() -> None:
    """10 ms are 220.5 samples at 22,050 Hz, and two hops are 440."""
    spec = dataclasses.replace(SPEC, sample_rate_hz=22_050)
    response = np.zeros(1_200)
    response[[0, 3 * 220]] = 1.0, 0.5
    power = np.exp(room_decays([response], spec, num_frames=6))[0, :, 60]
    assert power.shape == (6,)
    assert power[3] / power[0] == pytest.approx(0.25, rel=0.02)
    assert power[[1, 2, 4, 5]].max() < 0.01


def test_an_echo_between_two_frames_is_shared_by_both() -> None:
    def later(samples: int) -> np.ndarray:
        response = np.zeros(1_200)
        response[[0, samples]] = 1.0, 0.5
        return np.exp(room_decays([response], SPEC, num_frames=6))[0, :, 60]

    on_frame, between = later(480), later(560)
    assert on_frame[3] / on_frame[0] == pytest.approx(0.25, rel=0.02)
    assert between[3] == pytest.approx(between[4], rel=0.05)
    assert (between[3] + between[4]) / between[0] == pytest.approx(0.25, rel=0.02)
    assert on_frame[[1, 2, 4, 5]].max() < 0.01


def test_a_band_that_the_room_takes_away_decays_by_itself() -> None:
    """An echo without high frequencies is heard in low bands alone."""
    echo = np.sinc(np.arange(-200, 201) / 8) / 8 * np.hanning(401)  # below 1 kHz
    response = np.zeros(1_200)
    response[0] = 1.0
    response[600:1_001] += echo
    power = np.exp(room_decays([response], SPEC, num_frames=8))[0]
    late = power[4:7].sum(axis=0) / power[0]
    assert late[1:15].mean() > 0.5
    assert late[40:].max() < 0.01
    assert late[0] < late[1:15].mean()  # the first column is of all frequencies together


def test_many_rooms_are_measured_as_one_by_one() -> None:
    responses = [decaying(seed, reverberation_s=0.1 + 0.003 * seed) for seed in range(70)]
    together = room_decays(responses, SPEC, num_frames=8)
    for index in (0, 63, 64, 69):
        np.testing.assert_allclose(together[index], room_decays([responses[index]], SPEC, num_frames=8)[0], atol=1e-4)


def test_the_column_of_energy_is_there_when_asked_for() -> None:
    plain = room_decays([decaying(0)], dataclasses.replace(SPEC, use_energy=False), num_frames=8)
    both = room_decays([decaying(0)], SPEC, num_frames=8)
    np.testing.assert_allclose(both[:, :, 1:], plain, atol=1e-6)


def test_a_silent_room_is_refused() -> None:
    with pytest.raises(UserError, match="room response is empty or all zeros"):
        room_decays([np.zeros(50)], SPEC, num_frames=3)


# ---- the file of rooms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import soundfile

    (tmp_path / "rir" / "small").mkdir(parents=True)
    for seed in range(4):
        soundfile.write(tmp_path / "rir" / "small" / f"{seed}.wav", 0.3 * decaying(seed), RATE)
    return tmp_path / "rir"


def test_a_folder_becomes_a_file_of_rooms(folder: Path, tmp_path: Path) -> None:
    assert make_rooms(folder, tmp_path / "rooms.npz", spec=SPEC, progress=False) == 4
    table = read_rooms(tmp_path / "rooms.npz")
    assert table.names == tuple(f"small/{seed}.wav" for seed in range(4))
    assert table.spec == SPEC
    assert table.decay.shape == (4, 100, 81)
    expected = room_decays([decaying(2)], SPEC, num_frames=100)[0]
    audible = expected > -6
    np.testing.assert_allclose(
        table.decay[2][audible], expected[audible], atol=0.05
    )  # 16 bits of sound, float16 of decay


def test_some_of_many_rooms_are_drawn_by_the_seed(folder: Path, tmp_path: Path) -> None:
    chosen = []
    for seed in (0, 0, 1, 2, 3):
        make_rooms(folder, tmp_path / "rooms.npz", spec=SPEC, max_rooms=2, seed=seed, progress=False)
        chosen.append(read_rooms(tmp_path / "rooms.npz").names)
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) > 1
    assert all(len(names) == 2 for names in chosen)


def test_the_command_makes_the_file(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(room_table, [str(folder), str(tmp_path / "rooms.npz"), "--no-progress"])
    assert result.exit_code == 0, result.output
    assert "4 rooms" in result.output
    assert read_rooms(tmp_path / "rooms.npz").spec == FbankSpec()


def test_a_silent_file_is_named(folder: Path, tmp_path: Path) -> None:
    import soundfile

    soundfile.write(folder / "small" / "zero.wav", np.zeros(100), RATE)
    with pytest.raises(UserError, match=r"zero.wav: the room response is all zeros. Leave the file out"):
        make_rooms(folder, tmp_path / "rooms.npz", spec=SPEC, progress=False)
    assert not (tmp_path / "rooms.npz").exists()


def test_files_that_hold_no_rooms_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rooms.npz"
    with pytest.raises(UserError, match=r"No file of rooms .*rooms.npz. Make it with: mqmha prep room-table"):
        read_rooms(path)
    write_some_rooms(path)
    whole = path.read_bytes()
    wrong = {
        "cut off": whole[: len(whole) // 2],
        "a byte flipped": whole[:300] + bytes([whole[300] ^ 255]) + whole[301:],
        "text": b"these are no rooms",
        "empty": b"",
    }
    for content in wrong.values():
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"rooms.npz is damaged, or (is no .npz file of arrays|not a file of rooms)"
        ):
            read_rooms(path)
    np.savez(path, allow_pickle=True, decay=np.array([{}], object), about=np.zeros(1, np.uint8))
    with pytest.raises(UserError, match=r"is damaged, or is no .npz file of arrays"):
        read_rooms(path)
    write_rooms(path, np.zeros((2, 3, 80)), ["one", "two"], SPEC)
    with pytest.raises(UserError, match=r"decay is float16 \(2, 3, 80\) for 2 rooms, 81 bands"):
        read_rooms(path)


def test_a_newer_file_of_rooms_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqmha_jax.data.room_table.FORMAT_VERSION", 2)
    path = write_some_rooms(tmp_path / "rooms.npz")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"has format version 2; this program reads versions up to 1"):
        read_rooms(path)


def test_silence_stays_finite() -> None:
    """Where a crop is silence from end to end the result is the floor, and finite."""
    silent = jnp.full((1, 6, 2), SILENCE)
    wet = jax.jit(reverberate)(silent, jnp.zeros((1, 3, 2), jnp.float16))
    np.testing.assert_allclose(wet, np.log(FLOOR), rtol=1e-6)
    assert np.isfinite(add_noise(silent, silent)).all()
