"""A trained network as a tool: embed audio, decide whether two recordings are of one speaker."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64

from mqmha_jax.config import Config
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.training_mean import load_mean
from mqmha_jax.evaluation.scoring.calibration import Calibration, decision
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.evaluation.scoring.decisions import load_calibration, load_threshold
from mqmha_jax.evaluation.scoring.quality import Features, trial_features, utterance_measures
from mqmha_jax.evaluation.scoring.systems import select_features
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.features.audio import read_audio
from mqmha_jax.features.fbank import extract_fbank
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.parallel import vector_lanes
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
      verdict: "same", "different", or "unsure"; None where neither calibration nor threshold is known.
      probability: of the same speaker, if both answers were equally likely before; None without a calibration.
      threshold: where false alarms and misses were equally frequent on an evaluated list; None where none is known.
    """

    score: float
    verdict: Literal["same", "different", "unsure"] | None
    probability: float | None
    threshold: float | None

    @property
    def same(self) -> bool | None:
        """True, False, or None where it is not known or not sure."""
        return {"same": True, "different": False}.get(self.verdict or "")

    def sentence(self, workdir: Path) -> str:
        """What to say to the user; ``workdir`` is named where its evaluation is missing."""
        if self.verdict is None:
            return f"score {self.score:.3f}; no threshold is known, run 'mqmha evaluate {workdir}' for one"
        verdict = {"same": "same speaker", "different": "different speakers", "unsure": "unsure"}[self.verdict]
        if self.probability is None:
            return f"{verdict} (score {self.score:.3f}, threshold {self.threshold:.3f})"
        return f"{verdict} (probability of the same speaker {self.probability:.1%}, score {self.score:.3f})"


class SpeakerEncoder:
    """Audio in, speaker embeddings and decisions out."""

    def __init__(
        self,
        config: Config,
        variables: Mapping[str, Any],
        *,
        mean: Float[np.ndarray, " E"] | None = None,
        threshold: float | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        """Joins a network to the features that it was trained on.

        Args:
          config: the experiment.
          variables: ``params`` and ``batch_stats`` of its ``SpeakerNet``.
          mean: ``[E]``, subtracted from embeddings before they are compared; ``embed`` leaves them as they are.
          threshold: score from which on ``verify`` says "same speaker", without a calibration.
          calibration: of the cosine, by which ``verify`` says how sure it is.
        """
        self.config = config
        self.mean = mean
        self.threshold = threshold
        self.calibration = calibration
        self._embedder = Embedder(build_speaker_net(config.model, lanes=vector_lanes()), variables)

    @classmethod
    def load(cls, workdir: str | Path) -> "SpeakerEncoder":
        """Loads the latest checkpoint of a work directory, with mean, threshold and calibration of its evaluation.

        They belong to one step's network: after more training they are left out until the next evaluation.

        Raises:
          UserError: no work directory, no complete checkpoint, or a damaged file in it.
        """
        from mqmha_jax.runs.checkpoint import load_network  # Orbax, which only this way of making an encoder needs

        workdir = Path(workdir)
        network = load_network(workdir)
        return cls(
            network.config,
            network.variables,
            mean=load_mean(workdir, network.step),
            threshold=load_threshold(workdir, network.step),
            calibration=load_calibration(workdir, network.step),
        )

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

    def verify(self, first: Audio, second: Audio, *, prior: float = 0.5, confidence: float = 0.9) -> Verification:
        """Compares two recordings by the cosine of their embeddings.

        Args:
          first: file or waveform, as in ``embed``.
          second: the other one.
          prior: probability of the same speaker before the recordings were heard.
          confidence: below this probability of the likelier answer the verdict is "unsure"; 0.5 to 1.

        Returns:
          Score and verdict: by the calibration if there is one, else by the threshold, which is never unsure.

        Raises:
          UserError: a recording can not be used, or ``prior`` or ``confidence`` is out of range.
        """
        fbanks = tuple(fbank for _, fbank in self._utterances([first, second], None))
        part = _Part(("first", "second"), fbanks)
        pair = centre(embed(self._embedder, part, frames_per_batch=1), self.mean)
        trial = Trials(("first",), ("second",), np.ones(1, np.bool_))  # the label is not looked at
        scores = cosine_scores(pair, trial)
        score = float(scores[0])
        if self.calibration is not None:
            llr = self.calibration.llr(self._features(self.calibration, scores, pair, trial, part.num_frames))
            verdict, probability = decision(float(llr[0]), prior, confidence=confidence)
            return Verification(score, verdict, probability, self.threshold)
        if self.threshold is None:
            return Verification(score, None, None, None)
        return Verification(score, "same" if score >= self.threshold else "different", None, self.threshold)

    def _features(
        self,
        calibration: Calibration,
        scores: Float[np.ndarray, " 1"],
        pair: Embeddings,
        trial: Trials,
        num_frames: Int64[np.ndarray, " 2"],
    ) -> Features:
        """What the calibration looks at: the score, and maybe lengths of embeddings and of recordings."""
        seconds = num_frames * (self.config.fbank.frame_shift_ms / 1000)
        measures = utterance_measures(pair, duration_s=seconds)
        return select_features(trial_features(scores, trial, pair.ids, measures), calibration.features)

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
