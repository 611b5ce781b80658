"""Versions of a recording: copies at other speeds (as other speakers), and with noise, reverberation or telephone.

All random choices in a copy depend on the seed and the copy's id only, so neither the order of the work nor the other
copies change it.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_prep.corpora.musan import FIRST_CHANNEL, KINDS, NoiseKind, noise_files, room_files
from data_prep.manifest import Recording
from mqmha_jax.augment import waveform as augment
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.features.audio import WHOLE, Part, read_audio

NOISE_SNR_DB = (0.0, 15.0)
MUSIC_SNR_DB = (5.0, 15.0)
BABBLE_SNR_DB = (13.0, 20.0)
"""Signal-to-noise ratios. Kaldi's VoxCeleb recipe (egs/voxceleb/v2/run.sh) draws 15, 10, 5 or 0 dB for noise; 15, 10, 8
or 5 for music; and 20, 17, 15 or 13 for each voice of the babble. Ours are uniform over the same ranges."""

BABBLE_VOICES = (3, 7)
"""Fewest and most voices of the babble, as in that recipe."""

NOISE_GAP_S = 1.0
"""Pause between two noises, as in that recipe (``--fg-interval 1``)."""

CHAIN = (("noise", 0.2), ("music", 0.2), ("babble", 0.2), ("reverb", 0.6))
"""Steps of ``chain`` in order, each with its probability."""

CACHED_FILE_BYTES = 1 << 18
"""Larger noise files are not cached: minutes of music in many workers would fill the memory."""


SLOWEST, FASTEST = 0.25, 4.0
"""Beyond these speeds nothing sounds like a voice, and a small one would fill the memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VersionPlan:
    """The versions of every recording: each of ``names`` at each of ``speeds``.

    Attributes:
      names: keys of ``AUGMENTATIONS``.
      speeds: playing speeds, 1.0 first; every other speed makes new speakers.
      noise: folder of noises, for ``noise``; MUSAN, with its music and speech, for ``music`` and ``babble`` too.
      room_responses: folder of room impulse responses, for ``reverb``.
      seed: of all random choices.
      sample_rate_hz: rate of the waveforms.

    Raises:
      UserError: an unknown name, a repeated one, a missing folder or kind of noise, or speeds that do not start with
        1.0 or are out of range.
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
        usual = all(SLOWEST <= speed <= FASTEST for speed in self.speeds)  # no comparison holds for NaN
        written = {f"{speed:g}" for speed in self.speeds}  # as the names of the copies hold them
        if self.speeds[:1] != (1.0,) or len(written) < len(self.speeds) or not usual:
            raise UserError(
                f"speeds={','.join(map(str, self.speeds))}: give different speeds from {SLOWEST:g} to {FASTEST:g}, 1.0 "
                "first, such as 1.0,0.9,1.1 (six digits count): the speakers at speed 1.0 are the first classes, which "
                "fine-tuning keeps."
            )
        for name in self.names:
            self._check_sounds(name)

    def _check_sounds(self, name: str) -> None:
        """Refuses a version whose noises or rooms are missing."""
        for kind in AUGMENTATIONS[name].noises:
            if kind not in _noises(_require_folder(name, "noise", self.noise)):
                raise UserError(
                    f"The version {name!r} needs {kind}, but {self.noise} has no folder {kind!r}. Give --noise the "
                    f"folder of MUSAN, which holds {', '.join(KINDS)}."
                )
        if AUGMENTATIONS[name].rooms:
            _rooms(_require_folder(name, "room-responses", self.room_responses))


class Version(NamedTuple):
    """One copy of a recording.

    Attributes:
      utterance: the recording's id, followed by ``#speed0.9`` and ``#noise`` for such a copy.
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
    """Yields all copies of a recording that the plan asks for, speed by speed.

    Args:
      recording: gives the names of the copies.
      waveform: its samples at ``plan.sample_rate_hz``.
      plan: the copies to make.

    Raises:
      UserError: the recording already has an attribute ``speed`` or ``version``, or a noise or a room cannot be read.
    """
    from mqmha_jax.data.shard_format import SPEED_MARK  # here: it takes a while to load, and --help does without

    if taken := {"speed", "version"} & recording.attributes.keys():
        raise UserError(
            f"Recording {recording.utterance!r} has a column {taken.pop()!r}; the preparation uses this name to say "
            "how a copy was made. Rename the column."
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
                waveform=AUGMENTATIONS[name].make(at_speed, random_generator(plan.seed, utterance), plan),
            )


def random_generator(seed: int, utterance: str) -> np.random.Generator:
    """A generator that depends on the seed and the id only, on every machine."""
    digest = hashlib.sha256(utterance.encode(errors="surrogateescape")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16])])


Waveform = Float[np.ndarray, " n"]


def _clean(waveform: Waveform, rng: np.random.Generator, plan: VersionPlan) -> Waveform:
    return waveform


def _noise(waveform: Waveform, rng: np.random.Generator, plan: VersionPlan) -> Waveform:
    def next_noise() -> tuple[Waveform, float]:
        return _draw_noise("noise", rng, plan), rng.uniform(*NOISE_SNR_DB)

    gap = round(NOISE_GAP_S * plan.sample_rate_hz)
    return augment.add_noise_sequence(waveform, next_noise, rng, gap_samples=gap)


def _music(waveform: Waveform, rng: np.random.Generator, plan: VersionPlan) -> Waveform:
    return augment.add_noise(waveform, _draw_noise("music", rng, plan), rng.uniform(*MUSIC_SNR_DB), rng)


def _babble(waveform: Waveform, rng: np.random.Generator, plan: VersionPlan) -> Waveform:
    number = rng.integers(BABBLE_VOICES[0], BABBLE_VOICES[1] + 1)
    voices = [(_draw_noise("speech", rng, plan), rng.uniform(*BABBLE_SNR_DB)) for _ in range(number)]
    return augment.add_noises(waveform, voices, rng)


def _reverb(waveform: Waveform, rng: np.random.Generator, plan: VersionPlan) -> Waveform:
    assert plan.room_responses is not None  # VersionPlan checks it
    return augment.reverberate(waveform, _draw_sound(_rooms(plan.room_responses), rng, plan, FIRST_CHANNEL))


def _telephone(waveform: Waveform, rng: np.random.Generator, plan: VersionPlan) -> Waveform:
    return augment.telephone_band(waveform, rng, sample_rate_hz=plan.sample_rate_hz)


def _chain(waveform: Waveform, rng: np.random.Generator, plan: VersionPlan) -> Waveform:
    for (name, probability), draw in zip(CHAIN, rng.random(len(CHAIN)), strict=True):
        if draw < probability:
            waveform = AUGMENTATIONS[name].make(waveform, rng, plan)
    return waveform


class Augmentation(NamedTuple):
    """How to make a version, and from which sounds.

    Attributes:
      make: ``(waveform, generator, plan) -> waveform``.
      noises: kinds of noise that it draws.
      rooms: whether it draws room responses.
    """

    make: Callable[[Waveform, np.random.Generator, VersionPlan], Waveform]
    noises: tuple[NoiseKind, ...] = ()
    rooms: bool = False


AUGMENTATIONS: dict[str, Augmentation] = {
    "clean": Augmentation(_clean),
    "noise": Augmentation(_noise, noises=("noise",)),
    "music": Augmentation(_music, noises=("music",)),
    "babble": Augmentation(_babble, noises=("speech",)),
    "reverb": Augmentation(_reverb, rooms=True),
    "telephone": Augmentation(_telephone),
    "chain": Augmentation(_chain, noises=KINDS, rooms=True),
}


def check_folders(plan: VersionPlan) -> None:
    """Refuses a folder of noises or rooms that no version of the plan uses.

    Raises:
      UserError: there is one.
    """
    used = [AUGMENTATIONS[name] for name in plan.names]
    for option, folder, version, is_used in (
        ("--noise", plan.noise, "noise", any(one.noises for one in used)),
        ("--room-responses", plan.room_responses, "reverb", any(one.rooms for one in used)),
    ):
        if folder is not None and not is_used:
            raise UserError(
                f"{option} {folder} has no effect: --versions {','.join(plan.names)} does not use it. Add a version "
                f"such as {version}, or leave {option} out."
            )


def _require_folder(name: str, option: str, folder: Path | None) -> Path:
    if folder is None:
        raise UserError(f"The version {name!r} needs a folder of audio files: give --{option} DIR.")
    return folder


def _draw_noise(kind: NoiseKind, rng: np.random.Generator, plan: VersionPlan) -> Waveform:
    assert plan.noise is not None  # VersionPlan checks it
    return _draw_sound(_noises(plan.noise)[kind], rng, plan)


def _draw_sound(files: Sequence[Path], rng: np.random.Generator, plan: VersionPlan, part: Part = WHOLE) -> Waveform:
    path = files[int(rng.integers(len(files)))]
    is_small = path.is_file() and path.stat().st_size <= CACHED_FILE_BYTES
    return (_read_once if is_small else read_audio)(path, plan.sample_rate_hz, part)


_noises = functools.cache(noise_files)
_rooms = functools.cache(room_files)
_read_once = functools.lru_cache(maxsize=256)(read_audio)
