"""A trained network as a tool: embed audio, decide whether two recordings are of one speaker."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from mqmha_jax.config import Config
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embed import Embedder, embed
from mqmha_jax.evaluation.report import THRESHOLD_FILE
from mqmha_jax.evaluation.scoring import cosine_scores
from mqmha_jax.evaluation.training_mean import load_mean
from mqmha_jax.features.audio import read_audio
from mqmha_jax.features.fbank import extract_fbank
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.types import Embeddings, Trials

Audio = str | Path | np.ndarray

# Fbank of so many frames (80 MB at 80 bands, 44 minutes of audio) is kept at a time, however many files are given.
_FRAMES_AT_ONCE = 1 << 18

# Batches have a fixed number of rows, mostly filler when there are few recordings: up to so many go one by one.
_ONE_BY_ONE = 16


class Verification(NamedTuple):
    """Whether two recordings are of one speaker.

    Attributes:
      score: cosine in [-1, 1].
      same: ``score >= threshold``, None without a threshold.
      threshold: where false alarms and misses were equally frequent on an evaluated list; None where none is known.
    """

    score: float
    same: bool | None
    threshold: float | None


class SpeakerEncoder:
    """Audio in, speaker embeddings and decisions out."""

    def __init__(
        self,
        config: Config,
        variables: Mapping[str, Any],
        *,
        mean: Float[np.ndarray, " E"] | None = None,
        threshold: float | None = None,
    ) -> None:
        """Joins a network to the features that it was trained on.

        Args:
          config: the experiment.
          variables: ``params`` and ``batch_stats`` of its ``SpeakerNet``.
          mean: ``[E]``, subtracted from embeddings before they are compared; ``embed`` leaves them as they are.
          threshold: score from which on ``verify`` says "same speaker".
        """
        self.config = config
        self.mean = mean
        self.threshold = threshold
        self._embedder = Embedder(build_speaker_net(config.model), variables)

    @classmethod
    def load(cls, workdir: str | Path) -> "SpeakerEncoder":
        """Loads the latest checkpoint of a work directory, with the mean and the threshold of its last evaluation.

        Both belong to one step's network: after more training they are left out until the next evaluation.

        Raises:
          UserError: no work directory, no complete checkpoint, or a damaged file in it.
        """
        from mqmha_jax.train.checkpoint import load_network  # Orbax, which only this way of making an encoder needs

        network = load_network(Path(workdir))
        mean = load_mean(Path(workdir), network.step)
        threshold = _read_threshold(Path(workdir) / THRESHOLD_FILE, network.step)
        return cls(network.config, network.variables, mean=mean, threshold=threshold)

    def embed(
        self,
        audio: Audio | Sequence[Audio],
        *,
        on_error: Callable[[UserError], object] | None = None,
        progress: bool = False,
    ) -> Embeddings:
        """Embeds recordings, a bounded amount of audio at a time.

        Args:
          audio: files, or mono waveforms ``[n]`` in [-1, 1] at ``config.fbank.sample_rate_hz``; one or many.
          on_error: called for each recording that can not be used, which is then left out; None: raise instead.
          progress: show progress bars.

        Returns:
          Embeddings ``[N, E]``, not normalised, in the order given; ids are the paths, or ``waveform 0`` and so on.

        Raises:
          UserError: a recording can not be used (and ``on_error`` is None), or none can.
        """
        recordings = [audio] if isinstance(audio, (str, Path, np.ndarray)) else list(audio)
        parts = [
            embed(self._embedder, part, progress=progress, **({"frames_per_batch": 1} if part.is_small else {}))
            for part in _parts(self._utterances(recordings, on_error))
        ]
        if not parts:
            raise UserError(f"Nothing to embed: none of the {len(recordings)} recordings given can be used.")
        ids = tuple(utterance for part in parts for utterance in part.ids)
        return Embeddings(ids, np.concatenate([part.vectors for part in parts]))

    def verify(self, first: Audio, second: Audio) -> Verification:
        """Compares two recordings by the cosine of their embeddings.

        Args:
          first: file or waveform, as in ``embed``.
          second: the other one.

        Returns:
          Score and decision.

        Raises:
          UserError: a recording can not be used.
        """
        pair = Embeddings(("first", "second"), self.embed([first, second]).vectors)
        trial = Trials(("first",), ("second",), np.ones(1, np.bool_))  # the label is not looked at
        score = float(cosine_scores(pair, trial, mean=self.mean)[0])
        return Verification(score, None if self.threshold is None else score >= self.threshold, self.threshold)

    def _utterances(
        self, recordings: Sequence[Audio], on_error: Callable[[UserError], object] | None
    ) -> Iterator[tuple[str, Float32[np.ndarray, "T F"]]]:
        """Id and fbank of every usable recording."""
        for i, recording in enumerate(recordings):
            utterance = f"waveform {i}" if isinstance(recording, np.ndarray) else str(recording)
            try:
                fbank = self._fbank(utterance, recording)
            except UserError as error:
                if on_error is None:
                    raise
                on_error(error)
            else:
                yield utterance, fbank

    def _fbank(self, utterance: str, recording: Audio) -> Float32[np.ndarray, "T F"]:
        spec = self.config.fbank
        if isinstance(recording, np.ndarray):
            waveform = _checked(utterance, recording)
        else:
            waveform = read_audio(recording, spec.sample_rate_hz)
        try:
            return extract_fbank(waveform, spec)
        except UserError as error:
            raise UserError(f"{utterance}: {error}") from error


@dataclass(frozen=True)
class _Part:
    """Utterances in memory, as ``embed`` reads them."""

    utterances: tuple[str, ...]
    fbanks: tuple[Float32[np.ndarray, "_ F"], ...]

    @property
    def num_frames(self) -> np.ndarray:
        return np.array([len(fbank) for fbank in self.fbanks], np.int64)

    @property
    def is_small(self) -> bool:
        return len(self.utterances) <= _ONE_BY_ONE

    def fbank(self, index: int) -> Float32[np.ndarray, "T F"]:
        return self.fbanks[index]


def _parts(utterances: Iterator[tuple[str, np.ndarray]]) -> Iterator[_Part]:
    """Groups utterances so that a group's fbank fits in memory."""
    group: list[tuple[str, np.ndarray]] = []
    num_frames = 0
    for utterance in utterances:
        group.append(utterance)
        num_frames += len(utterance[1])
        if num_frames >= _FRAMES_AT_ONCE:
            yield _Part(*zip(*group, strict=True))
            group, num_frames = [], 0
    if group:
        yield _Part(*zip(*group, strict=True))


def _checked(utterance: str, waveform: np.ndarray) -> Float[np.ndarray, " n"]:
    """A waveform that can be used, or the reason why it can not."""
    valid = "valid: one channel [n] of floating-point samples in [-1, 1]"
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise UserError(f"{utterance}: an array of shape {waveform.shape} and type {waveform.dtype}; {valid}.")
    if not np.isfinite(waveform).all():
        raise UserError(f"{utterance}: {np.count_nonzero(~np.isfinite(waveform))} samples are not finite; {valid}.")
    return waveform


def _read_threshold(path: Path, step: int) -> float | None:
    """The threshold that an evaluation of this step's network left in the work directory, or None."""
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return float(saved["threshold"]) if saved["step"] == step else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds no threshold ({error}); evaluate the work directory again.") from error
