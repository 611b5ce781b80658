"""Versions of a recording: copies at other speeds, as other speakers, and with noise, reverberation or telephone.

All chance in a copy is a function of the seed and the copy's id, so neither the order of the work nor the other copies
asked for change it.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_prep.corpora.folder import audio_files
from data_prep.manifest import Recording
from mqmha_jax.augment import waveform as augment
from mqmha_jax.data.shard_format import SPEED_MARK
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.features.audio import read_audio

NOISE_SNR_DB = (0.0, 15.0)
"""Range of signal to noise, as for the noises of Kaldi's VoxCeleb recipe."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VersionPlan:
    """Which versions every recording gets: each of ``names`` at each of ``speeds``.

    Attributes:
      names: keys of ``AUGMENTATIONS``.
      speeds: playing speeds, 1.0 first; every other speed makes new speakers.
      noise: folder of noises, for ``noise``.
      room_responses: folder of room impulse responses, for ``reverb``.
      seed: of all random choices.
      sample_rate_hz: rate of the waveforms.

    Raises:
      UserError: an unknown name, a repeated one, a missing folder, or speeds that do not start with 1.0.
    """

    names: tuple[str, ...] = ("clean",)
    speeds: tuple[float, ...] = (1.0,)
    noise: Path | None = None
    room_responses: Path | None = None
    seed: int = 0
    sample_rate_hz: int = 16_000

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in AUGMENTATIONS:
                raise unknown_name("version", name, AUGMENTATIONS)
        if not self.names or len(set(self.names)) < len(self.names):
            raise UserError(f"versions={','.join(self.names)}: name each version once, at least one.")
        if self.speeds[:1] != (1.0,) or len(set(self.speeds)) < len(self.speeds) or not min(self.speeds) > 0:
            raise UserError(
                f"speeds={','.join(map(str, self.speeds))}: give different positive speeds with 1.0 first, such as "
                "1.0,0.9,1.1; the speakers at speed 1.0 become the first classes, which fine-tuning keeps."
            )
        for name, option, folder in (("noise", "noise", self.noise), ("reverb", "room-responses", self.room_responses)):
            if name in self.names:
                if folder is None:
                    raise UserError(f"The version {name!r} needs a folder of audio files: give --{option} DIR.")
                _files(folder)


class Version(NamedTuple):
    """One copy of a recording.

    Attributes:
      utterance: the recording's id, with ``#speed0.9`` and ``#noise`` appended for what was done to it.
      speaker: the recording's speaker, with ``#speed0.9`` appended at another speed than 1.
      speed_index: position of the speed in the plan; classes are ordered by it first.
      attributes: the recording's, and ``speed`` and ``version``.
      waveform: samples ``[n]``.
    """

    utterance: str
    speaker: str
    speed_index: int
    attributes: dict[str, str]
    waveform: Float[np.ndarray, " n"]


def versions(recording: Recording, waveform: Float[np.ndarray, " n"], plan: VersionPlan) -> Iterator[Version]:
    """All copies of a recording that the plan asks for, speed by speed.

    Args:
      recording: whose names the copies carry on.
      waveform: its samples at ``plan.sample_rate_hz``.
      plan: what to make.

    Raises:
      UserError: the recording already has an attribute ``speed`` or ``version``, or a noise or a room can not be read.
    """
    if taken := {"speed", "version"} & recording.attributes.keys():
        raise UserError(
            f"Recording {recording.utterance!r} has a column {taken.pop()!r}, a name that the preparation itself uses "
            "to say how a copy was made. Rename the column."
        )
    for speed_index, speed in enumerate(plan.speeds):
        suffix = "" if speed == 1.0 else f"{SPEED_MARK}{speed:g}"
        at_speed = waveform if speed == 1.0 else augment.change_speed(waveform, speed)
        for name in plan.names:
            utterance = recording.utterance + suffix + ("" if name == "clean" else f"#{name}")
            yield Version(
                utterance=utterance,
                speaker=recording.speaker + suffix,
                speed_index=speed_index,
                attributes={**recording.attributes, "speed": f"{speed:g}", "version": name},
                waveform=AUGMENTATIONS[name](at_speed, random_generator(plan.seed, utterance), plan),
            )


def random_generator(seed: int, utterance: str) -> np.random.Generator:
    """A generator that depends on nothing but the seed and the id, on every machine."""
    digest = hashlib.sha256(utterance.encode(errors="surrogateescape")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16])])


def _clean(waveform: Float[np.ndarray, " n"], rng: np.random.Generator, plan: VersionPlan) -> Float[np.ndarray, " n"]:
    return waveform


def _noise(waveform: Float[np.ndarray, " n"], rng: np.random.Generator, plan: VersionPlan) -> Float[np.ndarray, " n"]:
    return augment.add_noise(waveform, _drawn(plan.noise, rng, plan), rng.uniform(*NOISE_SNR_DB), rng)


def _reverb(waveform: Float[np.ndarray, " n"], rng: np.random.Generator, plan: VersionPlan) -> Float[np.ndarray, " n"]:
    return augment.reverberate(waveform, _drawn(plan.room_responses, rng, plan))


def _telephone(
    waveform: Float[np.ndarray, " n"], rng: np.random.Generator, plan: VersionPlan
) -> Float[np.ndarray, " n"]:
    return augment.telephone_band(waveform, rng, sample_rate_hz=plan.sample_rate_hz)


AUGMENTATIONS: dict[
    str, Callable[[Float[np.ndarray, " n"], np.random.Generator, VersionPlan], Float[np.ndarray, " n"]]
] = {
    "clean": _clean,
    "noise": _noise,
    "reverb": _reverb,
    "telephone": _telephone,
}


def _drawn(folder: Path | None, rng: np.random.Generator, plan: VersionPlan) -> Float[np.ndarray, " n"]:
    assert folder is not None  # VersionPlan checks it
    files = _files(folder)
    return _read(files[rng.integers(len(files))], plan.sample_rate_hz)


@functools.cache
def _files(folder: Path) -> list[Path]:
    return audio_files(folder)


@functools.lru_cache(maxsize=256)
def _read(path: Path, sample_rate_hz: int) -> Float[np.ndarray, " n"]:
    return read_audio(path, sample_rate_hz)
