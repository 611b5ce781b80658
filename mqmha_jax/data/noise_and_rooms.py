"""The noise and the room of every training example, drawn on the host; the training step adds them.

The draws of an example depend only on the seed and on the example's index in the global sequence. Hosts, workers and
the step at which a run resumes change nothing.
"""

import hashlib
import math
from typing import NamedTuple, TypedDict

import numpy as np
from jaxtyping import Float16, Float32, Int

from mqmha_jax.config import AugmentConfig, FbankSpec
from mqmha_jax.config_io import require_same_fbank
from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.data.room_table import RoomTable, read_rooms
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError

SILENCE = np.float16(-1e4)
"""Log power of silence: its exponential is 0 in every float type, so adding it changes no other power."""

STREAM = 0x6E6F6973
"""Separates these draws from others of the same seed."""

KINDS = ("noise", "music", "speech")
DECIBEL = math.log(10) / 10


class NoiseAndRoom(TypedDict, total=False):
    """The noise and the room of one example.

    Attributes:
      noise: natural logarithms of the power of all noises together, at their level; ``SILENCE`` without noise.
      decay: decay of the room, as in ``RoomTable.decay``; only frame 0 sounds without a room.
    """

    noise: Float16[np.ndarray, "T F"]
    decay: Float16[np.ndarray, "L F"]


class _Source(NamedTuple):
    """One noise to add: its kind (of ``KINDS``) and the ratio of speech to noise."""

    kind: str
    snr_db: float


class NoiseAndRooms:
    """Draws noises and rooms.

    Attributes:
      context_frames: frames that a crop needs before its first, for their echoes.
      needs_power: whether ``draw`` uses the power of the speech.
    """

    def __init__(self, config: AugmentConfig, noise: FbankShards | None, rooms: RoomTable | None, seed: int) -> None:
        """Prepare to draw.

        Args:
          config: probabilities and ranges.
          noise: shards of noises; None: no noise.
          rooms: the rooms; None: no reverberation.
          seed: seed of all draws.

        Raises:
          UserError: the shards lack a kind of noise that has a probability above 0, the noises have no powers, or the
            configuration contradicts itself.
        """
        _check(config)
        self._config, self._noise, self._seed = config, noise, seed
        self._decay = None if rooms is None else _set_length(rooms.decay, config.context_frames + 1)
        self.context_frames = 0 if rooms is None else config.context_frames
        self.needs_power = noise is not None
        self._of_kind = {} if noise is None else _group_by_kind(noise)
        self._power = None if noise is None else read_powers(noise)
        if noise is not None:
            _check_kinds(config, noise, self._of_kind)

    def draw(self, example: int, *, speech_power: float, num_frames: int, silent_frames: int) -> NoiseAndRoom:
        """Draws the noise and the room of one example.

        Args:
          example: index in the global sequence.
          speech_power: mean square of the utterance's waveform.
          num_frames: length of the crop with its context.
          silent_frames: number of these frames that lie before the utterance; they get no noise.

        Raises:
          UserError: a record of the noises cannot be read.
        """
        rng = np.random.default_rng([self._seed, STREAM, example])
        chosen = self._choose_kinds(rng)
        drawn: NoiseAndRoom = {}
        if self._noise is not None:
            sources = [
                source
                for name in ("noise", "music", "babble")
                if name in chosen
                for source in self._draw_sources(name, rng)
            ]
            drawn["noise"] = self._mix(sources, speech_power, num_frames, rng)
            drawn["noise"][:silent_frames] = SILENCE
        if self._decay is not None:
            if "reverb" in chosen:
                drawn["decay"] = self._decay[rng.integers(len(self._decay))]
            else:
                drawn["decay"] = np.full(self._decay.shape[1:], SILENCE)
                drawn["decay"][0] = 0
        return drawn

    def identity(self) -> dict[str, str | None]:
        """Returns fingerprints of the noises and of the rooms; None if there are none."""
        return {
            "noise": None if self._noise is None else self._noise.identity()["fingerprint"],
            "rooms": None if self._decay is None else hashlib.sha256(self._decay.tobytes()).hexdigest(),
        }

    def _choose_kinds(self, rng: np.random.Generator) -> set[str]:
        probability = {
            "noise": self._config.noise_probability,
            "music": self._config.music_probability,
            "babble": self._config.babble_probability,
            "reverb": self._config.reverb_probability,
        }
        if self._config.one_at_a_time:
            ends = np.cumsum(list(probability.values()))
            place = int(np.searchsorted(ends, rng.random(), side="right"))
            return set(list(probability)[place : place + 1])
        return {
            name
            for name, draw in zip(probability, rng.random(len(probability)), strict=True)
            if draw < probability[name]
        }

    def _draw_sources(self, name: str, rng: np.random.Generator) -> list[_Source]:
        config = self._config
        if name == "noise":
            return [_Source("noise", rng.uniform(*config.noise_snr_db))]
        if name == "music":
            return [_Source("music", rng.uniform(*config.music_snr_db))]
        fewest, most = config.babble_voices
        return [_Source("speech", rng.uniform(*config.babble_snr_db)) for _ in range(rng.integers(fewest, most + 1))]

    def _mix(
        self, sources: list[_Source], speech_power: float, num_frames: int, rng: np.random.Generator
    ) -> Float16[np.ndarray, "T F"]:
        assert self._noise is not None
        assert self._power is not None
        levels = []
        for kind, snr_db in sources:
            clip = int(rng.choice(self._of_kind[kind]))
            length = int(self._noise.num_frames[clip])  # a shorter clip is repeated, from anywhere
            first = int(rng.integers(length - num_frames + 1 if length >= num_frames else length))
            if speech_power > 0 and self._power[clip] > 0:  # digital silence has no ratio to anything
                gain = np.float32(math.log(speech_power / self._power[clip]) - snr_db * DECIBEL)
                levels.append(self._noise.crop(clip, first, num_frames) + gain)
        if not levels:
            return np.full((num_frames, self._noise.spec.num_features), SILENCE)
        if len(levels) == 1:
            return levels[0].astype(np.float16)
        total = np.sum(np.exp(levels), axis=0)
        return np.log(np.maximum(total, np.finfo(np.float32).tiny)).astype(np.float16)


def open_noise_and_rooms(config: AugmentConfig, fbank: FbankSpec, seed: int) -> NoiseAndRooms | None:
    """Opens the noises and rooms of a configuration; None if it names neither.

    Args:
      config: their files, probabilities and ranges.
      fbank: filterbank of the training data; noises and rooms must have the same.
      seed: seed of all draws.

    Raises:
      UserError: as in ``NoiseAndRooms``; or noises or rooms are missing, damaged or of another filterbank.
    """
    if not (config.noise or config.rooms):
        return None
    noise = rooms = None
    if config.noise:
        noise = open_shards(config.noise)
        require_same_fbank(fbank, noise.spec, f"The shards of noises in augment.noise={config.noise}")
    if config.rooms:
        rooms = read_rooms(config.rooms)
        require_same_fbank(fbank, rooms.spec, f"The decays in augment.rooms={config.rooms}")
    return NoiseAndRooms(config, noise, rooms, seed)


def identify(noise_and_rooms: NoiseAndRooms | None) -> dict[str, str | None]:
    """Returns fingerprints as JSON values, which a resumed run compares with its own."""
    return {"noise": None, "rooms": None} if noise_and_rooms is None else noise_and_rooms.identity()


def read_powers(shards: TrainingShards) -> Float32[np.ndarray, " N"]:
    """Reads the mean square of each utterance's waveform (samples in [-1, 1]).

    Raises:
      UserError: the shards do not record it.
    """
    if "power" not in shards.measures or np.isnan(shards.measures["power"]).any():
        raise UserError(
            f"The shards in {shards.directory} do not record the power of their waveforms, which the ratio of speech "
            "to noise needs. Prepare them again with this version, or leave augment.noise empty."
        )
    return shards.measures["power"]


def _group_by_kind(noise: FbankShards) -> dict[str, Int[np.ndarray, " _"]]:
    """Returns the clips of each kind; in shards without the three names every clip is noise."""
    if not set(KINDS) & set(noise.speakers):
        return {"noise": np.arange(len(noise))}
    return {
        kind: np.flatnonzero(noise.speaker == noise.speakers.index(kind)) for kind in KINDS if kind in noise.speakers
    }


def _set_length(decay: Float16[np.ndarray, "R L F"], num_frames: int) -> Float16[np.ndarray, "R M F"]:
    missing = max(0, num_frames - decay.shape[1])
    return np.pad(decay[:, :num_frames], ((0, 0), (0, missing), (0, 0)), constant_values=SILENCE)


def _check(config: AugmentConfig) -> None:
    total = config.noise_probability + config.music_probability + config.babble_probability + config.reverb_probability
    if config.one_at_a_time and total > 1 + 1e-9:
        raise UserError(
            f"augment.one_at_a_time draws at most one kind, but the probabilities add up to {total:g}; lower "
            "augment.*_probability so that they add up to 1 or less (five equal versions: 0.2 each)."
        )


def _check_kinds(config: AugmentConfig, noise: FbankShards, of_kind: dict[str, Int[np.ndarray, " _"]]) -> None:
    for name, kind in (("noise", "noise"), ("music", "music"), ("babble", "speech")):
        if getattr(config, f"{name}_probability") > 0 and kind not in of_kind:
            raise UserError(
                f"augment.{name}_probability is above 0, but {noise.directory} holds no {kind}. Its speakers name the "
                f"kinds of noise ({', '.join(KINDS)}), and {kind!r} is not one of them. Add such clips, or set "
                f"augment.{name}_probability=0."
            )
