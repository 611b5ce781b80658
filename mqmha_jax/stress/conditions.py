"""The conditions under which trials are repeated; a new one is one function and one line."""

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float32

from mqmha_jax.augment.waveform import add_noise, change_speed, reverberate, telephone_band
from mqmha_jax.errors import UserError
from mqmha_jax.stress.codecs import Codec, code, has_encoder
from mqmha_jax.stress.surroundings import Surroundings, decaying_room

CLEAN = "clean"
Waveform = Float32[np.ndarray, " _"]


class Sound(NamedTuple):
    """A recording under test, with what a condition needs to change it.

    Attributes:
      waveform: samples ``[n]``.
      rate_hz: sample rate.
      utterance: id.
      around: noises and rooms.
      rng: of this recording under this condition.
    """

    waveform: Waveform
    rate_hz: int
    utterance: str
    around: Surroundings
    rng: np.random.Generator


class Condition(NamedTuple):
    """A way to degrade recordings.

    Attributes:
      group: kind of condition, which has a colour in the picture.
      title: what happens, in words.
      change: gives the samples that the network hears.
      codec: needed from this build of PyAV; None: no codec.
      needs_rooms: needs a folder of rooms.
    """

    group: str
    title: str
    change: Callable[[Sound], Waveform]
    codec: Codec | None = None
    needs_rooms: bool = False


def _keep(sound: Sound) -> Waveform:
    return sound.waveform


def _code(sound: Sound, *, codec: Codec) -> Waveform:
    return code(sound.waveform, sound.rate_hz, codec)


def _narrow(sound: Sound) -> Waveform:
    line = soxr.resample(sound.waveform, sound.rate_hz, 8_000)
    heard = soxr.resample(line, 8_000, sound.rate_hz)[: len(sound.waveform)]
    return np.pad(heard, (0, len(sound.waveform) - len(heard)))


def _telephone(sound: Sound) -> Waveform:
    return telephone_band(sound.waveform, sound.rng, sample_rate_hz=sound.rate_hz)


def _overload(sound: Sound, *, share: float) -> Waveform:
    limit = np.quantile(np.abs(sound.waveform), 1 - share)
    return np.clip(sound.waveform / limit, -1, 1) if limit > 0 else sound.waveform


def _quieten(sound: Sound, *, db: float) -> Waveform:
    return np.round(sound.waveform * np.float32(2**15 * 10 ** (-db / 20))) / np.float32(2**15)


def _noise(sound: Sound, *, snr_db: float) -> Waveform:
    noise = sound.around.noise(len(sound.waveform), sound.rng)
    return add_noise(sound.waveform, noise, snr_db, sound.rng)


def _babble(sound: Sound, *, snr_db: float) -> Waveform:
    babble = sound.around.babble(len(sound.waveform), sound.rng, utterance=sound.utterance)
    return add_noise(sound.waveform, babble, snr_db, sound.rng)


def _room(sound: Sound) -> Waveform:
    return reverberate(sound.waveform, sound.around.room(sound.rng))


def _echo(sound: Sound, *, reverberation_s: float) -> Waveform:
    return reverberate(sound.waveform, decaying_room(reverberation_s, sound.rate_hz, sound.rng))


def _speed(sound: Sound, *, factor: float) -> Waveform:
    return change_speed(sound.waveform, factor)


def _begin(sound: Sound, *, seconds: float) -> Waveform:
    return sound.waveform[: round(seconds * sound.rate_hz)]


def _coded(title: str, codec: Codec) -> Condition:
    return Condition("codec", title, partial(_code, codec=codec), codec)


CONDITIONS: dict[str, Condition] = {
    CLEAN: Condition(CLEAN, "as recorded", _keep),
    "mp3-64k": _coded("MP3 at 64 kbit/s", Codec("libmp3lame", "mp3", 64_000)),
    "mp3-32k": _coded("MP3 at 32 kbit/s", Codec("libmp3lame", "mp3", 32_000)),
    "aac-32k": _coded("AAC at 32 kbit/s", Codec("aac", "mp4", 32_000)),
    "opus-16k": _coded("Opus at 16 kbit/s", Codec("libopus", "ogg", 16_000)),
    "opus-8k": _coded("Opus at 8 kbit/s", Codec("libopus", "ogg", 8_000)),
    "alaw": _coded("G.711 A-law, 8 kHz", Codec("pcm_alaw", "wav", rate_hz=8_000)),
    "mulaw": _coded("G.711 mu-law, 8 kHz", Codec("pcm_mulaw", "wav", rate_hz=8_000)),
    "gsm": _coded("GSM full rate, 8 kHz", Codec("libgsm", "gsm", 13_000, 8_000)),
    "amr-12k": _coded("AMR at 12.2 kbit/s, 8 kHz", Codec("libopencore_amrnb", "amr", 12_200, 8_000)),
    "amr-5k": _coded("AMR at 4.75 kbit/s, 8 kHz", Codec("libopencore_amrnb", "amr", 4_750, 8_000)),
    "8khz": Condition("channel", "sampled at 8 kHz", _narrow),
    "telephone": Condition("channel", "band of a telephone, about 300 to 3,400 Hz, and mu-law", _telephone),
    "clipped": Condition("level", "overloaded: a tenth of the samples at full scale", partial(_overload, share=0.1)),
    "quiet": Condition("level", "40 dB quieter, in 16 bits", partial(_quieten, db=40.0)),
    "noise-20db": Condition("noise", "noise 20 dB below the speech", partial(_noise, snr_db=20.0)),
    "noise-10db": Condition("noise", "noise 10 dB below the speech", partial(_noise, snr_db=10.0)),
    "noise-5db": Condition("noise", "noise 5 dB below the speech", partial(_noise, snr_db=5.0)),
    "noise-0db": Condition("noise", "noise as loud as the speech", partial(_noise, snr_db=0.0)),
    "babble-10db": Condition("noise", "six other voices 10 dB below the speech", partial(_babble, snr_db=10.0)),
    "babble-5db": Condition("noise", "six other voices 5 dB below the speech", partial(_babble, snr_db=5.0)),
    "rooms": Condition("room", "in a room of --rooms", _room, needs_rooms=True),
    "echo-0.3s": Condition("room", "echoes that decay in 0.3 s", partial(_echo, reverberation_s=0.3)),
    "echo-0.6s": Condition("room", "echoes that decay in 0.6 s", partial(_echo, reverberation_s=0.6)),
    "echo-1s": Condition("room", "echoes that decay in 1 s", partial(_echo, reverberation_s=1.0)),
    "speed-0.9": Condition("speed", "10 % slower and lower", partial(_speed, factor=0.9)),
    "speed-1.1": Condition("speed", "10 % faster and higher", partial(_speed, factor=1.1)),
    "first-4s": Condition("length", "the first 4 s", partial(_begin, seconds=4.0)),
    "first-2s": Condition("length", "the first 2 s", partial(_begin, seconds=2.0)),
    "first-1s": Condition("length", "the first second", partial(_begin, seconds=1.0)),
}
"""Every condition by name, in the order of the table."""


def choose_conditions(asked: Sequence[str]) -> dict[str, Condition]:
    """The conditions with these names, of these groups, or all; always with the clean one, first.

    Raises:
      UserError: there is no such condition or group.
    """
    groups = {condition.group for condition in CONDITIONS.values()}
    for name in asked:
        if name not in CONDITIONS and name not in groups:
            nearest = difflib.get_close_matches(name, [*CONDITIONS, *groups], n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise UserError(
                f"--conditions: there is no {name!r}.{hint} 'mqmha stress --list' shows all names and groups."
            )
    return {
        name: condition
        for name, condition in CONDITIONS.items()
        if not asked or name == CLEAN or name in asked or condition.group in asked
    }


def explain_absence(condition: Condition, *, has_rooms: bool) -> str | None:
    """Why a condition cannot be tested here; None if it can."""
    if condition.codec is not None and not has_encoder(condition.codec):
        return f"this build of PyAV has no encoder {condition.codec.encoder}"
    if condition.needs_rooms and not has_rooms:
        return "needs a folder of impulse responses, --rooms FOLDER"
    return None
