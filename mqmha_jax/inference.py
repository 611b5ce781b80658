"""Uses a trained network: embeds audio, and decides whether two recordings have the same speaker."""

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

from mqmha_jax.config import Config, NonNegative
from mqmha_jax.data.eval_pipeline import EvalBatch
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.recordings import (
    Utterance,
    UtteranceGroup,
    embed_utterances,
    make_utterance,
    map_ahead,
    read_utterance,
)
from mqmha_jax.evaluation.embeddings.training_mean import load_mean, mean_path
from mqmha_jax.evaluation.scoring.calibration import Calibration, check_decision_options
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.evaluation.scoring.decisions import KeptCalibration, Threshold, load_decision
from mqmha_jax.evaluation.scoring.quality import Features, trial_features, utterance_measures
from mqmha_jax.evaluation.scoring.systems import select_features
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.features.mixdown import check_amplitude
from mqmha_jax.features.speech_evidence import MIN_SPEECH_S, SpeechEvidence
from mqmha_jax.field_checks import check_value
from mqmha_jax.models.speaker_net import build_speaker_net, fold_for_inference
from mqmha_jax.models.trusted_convolutions import trust_convolutions
from mqmha_jax.own_code.trust import code_allowed
from mqmha_jax.parallel import vector_lanes
from mqmha_jax.types import Embeddings, Trials
from mqmha_jax.verification import Verification, reach_verdict

Audio = str | Path | np.ndarray

_log = logging.getLogger(__name__)


class Observation(NamedTuple):
    """The embedding of a recording, and the measure of its speech.

    Attributes:
      name: path, ``waveform 0``, or the name that was given.
      vector: embedding ``[E]``, not normalised, without the mean subtracted.
      seconds: length of the recording in frames of the filterbank.
      evidence: the speech in the recording.
      warnings: sentences on what makes the embedding doubtful; mostly none.
    """

    name: str
    vector: Float[np.ndarray, " E"]
    seconds: float
    evidence: SpeechEvidence
    warnings: tuple[str, ...]


class SpeakerEncoder:
    """Turns audio into speaker embeddings and decisions."""

    def __init__(
        self,
        config: Config | str | Path,
        variables: Mapping[str, Any] | None = None,
        *,
        mean: Float[np.ndarray, " E"] | None = None,
        threshold: float | None = None,
        calibration: Calibration | None = None,
        name: str = "",
    ) -> None:
        """Combines a network with the features that it was trained on.

        Args:
          config: the experiment; or only the work directory of a run, as for ``load``.
          variables: ``params`` and ``batch_stats`` of its ``SpeakerNet``.
          mean: ``[E]``, subtracted from embeddings before they are compared; ``embed`` leaves them as they are.
          threshold: lowest score that ``verify`` calls "same" if there is no calibration.
          calibration: of the cosine; gives ``verify`` a probability.
          name: shown when the encoder is printed.
        """
        if isinstance(config, (str, Path)):
            if variables is not None:
                raise UserError("SpeakerEncoder(WORKDIR) takes no variables; it loads those of the run.")
            vars(self).update(vars(type(self).load(config)))
            return
        if variables is None:
            raise UserError(
                "SpeakerEncoder(config) needs variables; SpeakerEncoder.load(WORKDIR) loads those of a run."
            )
        self.config = config
        self.mean = mean
        self.threshold = threshold
        self.calibration = calibration
        self.name = name
        self.workdir: Path | None = None
        self.step: int | None = None
        self._variables = variables
        net = build_speaker_net(config.model, lanes=vector_lanes())
        net = trust_convolutions(net, config.fbank.num_features)
        self._embedder = Embedder(*fold_for_inference(net, variables))

    @classmethod
    def load(
        cls, workdir: str | Path, *, step: int | Literal["best"] | None = None, allow_code: bool = False
    ) -> "SpeakerEncoder":
        """Loads a checkpoint of a work directory, with mean, threshold and calibration of its evaluation.

        Mean, threshold and calibration belong to the network of one step, so a step that was not evaluated has none.

        Args:
          workdir: of the run.
          step: of the checkpoint; "best": the one with the lowest dev EER; None: the newest.
          allow_code: run the Python files in the run, although you have not trained with them on this machine.

        Raises:
          UserError: no work directory, no such checkpoint, a damaged file in it, or code that was not allowed.
        """
        # here: brings Orbax, which only this method needs
        from mqmha_jax.runs.checkpoint import Checkpoints
        from mqmha_jax.runs.workdir import read_config

        workdir = Path(workdir)
        read_config(workdir)  # first, so that a path without a run gets that answer
        with code_allowed(allow_code), Checkpoints(workdir) as checkpoints:
            return checkpoints.read(step, functools.partial(cls._load_step, workdir))

    @classmethod
    def _load_step(cls, workdir: Path, step: int) -> "SpeakerEncoder":
        from mqmha_jax.runs.load_network import load_network

        network = load_network(workdir, step)
        threshold = load_decision(workdir, Threshold, network.step)
        kept = load_decision(workdir, KeptCalibration, network.step)
        mean = load_mean(workdir, network.step, network.config.model.embedding_dim)
        if mean is None and (threshold or kept) and network.config.data.train:
            raise UserError(
                f"{mean_path(workdir, network.step)} is missing or of another network, and the run's threshold is of "
                f"scores after subtracting this mean. Run 'mqmha evaluate {workdir} --step {network.step}' again."
            )
        encoder = cls(
            network.config,
            network.variables,
            mean=mean,
            threshold=threshold and threshold.value,
            calibration=kept and kept.calibration,
            name=f"{workdir}, step {network.step}",
        )
        encoder.workdir, encoder.step = workdir, network.step
        return encoder

    @classmethod
    def from_pretrained(cls, source: str | Path) -> "SpeakerEncoder":
        """Loads a network that was trained here or by another toolkit, or published on the Hub.

        Args:
          source: a work directory; a checkpoint file (PyTorch or safetensors, of a family that ``mqmha import``
            knows) or a folder that holds one; or ``hf:owner/name``, a repository with either, which is downloaded
            once and needs the extra 'hub'.

        Raises:
          UserError: there is no such source, or its network cannot be used.
        """
        from mqmha_jax.interop.pretrained import find_pretrained, load_pretrained

        path = find_pretrained(source)
        if (path / "config.json").is_file() and (path / "checkpoints").is_dir():
            return cls.load(path)
        file = load_pretrained(path)
        return cls(file.config, file.variables, name=f"{source}, {file.title}")

    def __repr__(self) -> str:
        """One line: the run, the network and what is known of its scores."""
        model = self.config.model
        known = [
            "no threshold" if self.threshold is None else f"threshold {self.threshold:.3f}",
            "not calibrated" if self.calibration is None else "calibrated",
        ]
        network = f"{model.encoder.name} + {model.pooling.name}, {model.embedding_dim} dimensions"
        rate = f"{self.config.fbank.sample_rate_hz / 1000:g} kHz"
        return f"<SpeakerEncoder {'; '.join(filter(None, [self.name, network, rate, ', '.join(known)]))}>"

    def embed(
        self,
        audio: Audio | Sequence[Audio],
        *,
        channel: int | None = None,
        on_error: Callable[[UserError], object] | None = None,
        on_warning: Callable[[str], object] = _log.warning,
        progress: bool = False,
    ) -> Embeddings:
        """Embeds recordings, a bounded amount of audio at a time.

        Args:
          audio: files, or mono waveforms ``[n]`` in [-1, 1] at ``config.fbank.sample_rate_hz``; one or many.
          channel: the channel of each file to use, from 0; None: the mean of all.
          on_error: called for each recording that cannot be used; it is left out. None: raise instead.
          on_warning: called with a sentence for each recording with too little speech or much clipping; it is
            embedded all the same.
          progress: show progress bars.

        Returns:
          Embeddings ``[N, E]``, not normalised, in the order given; ids are the paths, or ``waveform 0`` and so on.

        Raises:
          UserError: a recording cannot be used (and ``on_error`` is None), or none can.
        """
        recordings = list_recordings(audio)
        groups = list(
            self.embed_groups(recordings, channel=channel, on_error=on_error, on_warning=on_warning, progress=progress)
        )
        if not groups:
            raise UserError(f"Nothing to embed: {count_noun(len(recordings), 'recording')} given, none can be used.")
        ids = tuple(utterance for group in groups for utterance in group.ids)
        return Embeddings(ids, np.concatenate([group.vectors for group in groups]))

    def embed_groups(
        self,
        recordings: Iterable[Audio],
        *,
        channel: int | None = None,
        on_error: Callable[[UserError], object] | None = None,
        on_warning: Callable[[str], object] = _log.warning,
        progress: bool = False,
    ) -> Iterator[Embeddings]:
        """Embeds any number of recordings, about 44 minutes of audio at a time.

        Args:
          recordings: read when needed.
          channel: as in ``embed``.
          on_error: as in ``embed``.
          on_warning: as in ``embed``.
          progress: as in ``embed``.

        Yields:
          Embeddings of the next recordings, in their order.

        Raises:
          UserError: a recording cannot be used (and ``on_error`` is None).
        """
        utterances = self._utterances(recordings, channel, on_error, on_warning)
        for group in embed_utterances(self._embedder, utterances, progress=progress):
            finite = np.isfinite(group.vectors).all(axis=1)
            for row in np.flatnonzero(~finite):
                error = self._not_finite(group.ids[row])
                if on_error is None:
                    raise error
                on_error(error)
            if finite.any():
                ids = tuple(name for name, good in zip(group.ids, finite, strict=True) if good)
                yield Embeddings(ids, group.vectors[finite])

    def observe(self, recording: Audio, *, name: str | None = None, channel: int | None = None) -> Observation:
        """Embeds one recording and measures the speech in it.

        Args:
          recording: file or waveform, as in ``embed``.
          name: of the recording in messages; None: its path.
          channel: the channel of the file to use, from 0; None: the mean of all.

        Raises:
          UserError: the recording cannot be used.
        """
        one = self._utterance(0, recording, channel, name)
        group = UtteranceGroup((one.name,), (one.fbank,))
        vector = embed(self._embedder, group, frames_per_batch=1).vectors[0]
        if not np.isfinite(vector).all():
            raise self._not_finite(one.name)
        seconds = one.num_frames * (self.config.fbank.frame_shift_ms / 1000)
        return Observation(one.name, vector, seconds, one.evidence, tuple(one.warnings()))

    def embed_frames(
        self, fbank: Float32[np.ndarray, "B T F"], num_frames: Int32[np.ndarray, " B"]
    ) -> Float32[np.ndarray, "B E"]:
        """Embeds filterbank frames.

        Args:
          fbank: frames of ``config.fbank``, not mean-normalised.
          num_frames: valid frames of each row.

        Returns:
          One embedding for each row, not normalised.
        """
        _, vectors = self._embedder(EvalBatch(fbank, num_frames, np.arange(len(fbank), dtype=np.int32)))
        return np.asarray(vectors)

    def arrays(self) -> Iterator[np.ndarray]:
        """Yields the parameters and statistics of the network, always in the same order."""
        yield from map(np.asarray, jax.tree.leaves(dict(self._variables)))

    @functools.cached_property
    def sha256(self) -> str:
        """A fingerprint of the network: SHA-256 of its parameters and statistics, in hexadecimal."""
        digest = hashlib.sha256()
        for array in self.arrays():
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def verify(
        self,
        first: Audio,
        second: Audio,
        *,
        prior: float = 0.5,
        confidence: float = 0.9,
        min_speech_s: float = MIN_SPEECH_S,
        channel: int | None = None,
        names: tuple[str | None, str | None] = (None, None),
    ) -> Verification:
        """Compares two recordings by the cosine of their embeddings.

        Args:
          first: file or waveform, as in ``embed``.
          second: the other one.
          prior: prior probability of the same speaker.
          confidence: the verdict is "unsure" if the likelier answer is less probable than this; 0.5 to 1.
          min_speech_s: the verdict is "unsure" if a recording holds less speech than this; 0: no minimum.
          channel: the channel of each file to use, from 0; None: the mean of all.
          names: of the recordings in messages; None: the path, or ``waveform 0`` and ``waveform 1``.

        Returns:
          Score and verdict. The calibration decides if there is one, else the threshold, which is "unsure" only of
          recordings with too little speech.

        Raises:
          UserError: a recording cannot be used, or an option is out of range.
        """
        check_decision_options(prior, confidence)
        check_value("min_speech_s", min_speech_s, NonNegative)
        one = self._utterance(0, first, channel, names[0])
        other = self._utterance(1, second, channel, names[1])
        group = UtteranceGroup(("first", "second"), (one.fbank, other.fbank))
        embedded = embed(self._embedder, group, frames_per_batch=1)
        for utterance, vector in zip((one, other), embedded.vectors, strict=True):
            if not np.isfinite(vector).all():
                raise self._not_finite(utterance.name)
        pair = centre(embedded, self.mean)
        trial = Trials(("first",), ("second",), np.ones(1, np.bool_))  # the label is not used
        scores = cosine_scores(pair, trial)
        llr = None
        if self.calibration is not None:
            num_frames = np.array([one.num_frames, other.num_frames], np.int64)
            features = self._features(self.calibration, scores, pair, trial, num_frames)
            llr = float(self.calibration.llr(features)[0])
        return reach_verdict(
            float(scores[0]),
            llr,
            self.threshold,
            prior=prior,
            confidence=confidence,
            heard=[(one.name, one.evidence), (other.name, other.evidence)],
            min_speech_s=min_speech_s,
        )

    def _features(
        self,
        calibration: Calibration,
        scores: Float[np.ndarray, " 1"],
        pair: Embeddings,
        trial: Trials,
        num_frames: Int64[np.ndarray, " 2"],
    ) -> Features:
        """Returns the inputs of the calibration: the score, and maybe lengths of embeddings and recordings."""
        seconds = num_frames * (self.config.fbank.frame_shift_ms / 1000)
        measures = utterance_measures(pair, duration_s=seconds)
        return select_features(trial_features(scores, trial, pair.ids, measures), calibration.features)

    def _not_finite(self, recording: str) -> UserError:
        return UserError(
            f"{recording}: its embedding is not finite, because the network{f' ({self.name})' if self.name else ''} "
            "computes NaN or infinity. Use another checkpoint."
        )

    def _utterances(
        self,
        recordings: Iterable[Audio],
        channel: int | None,
        on_error: Callable[[UserError], object] | None,
        on_warning: Callable[[str], object],
    ) -> Iterator[Utterance]:
        """Yields every usable recording; threads read ahead."""

        def read(numbered: tuple[int, Audio]) -> Utterance | UserError:
            try:
                return self._utterance(*numbered, channel)
            except UserError as error:
                return error

        for found in map_ahead(read, enumerate(recordings)):
            if isinstance(found, UserError):
                if on_error is None:
                    raise found
                on_error(found)
                continue
            for warning in found.warnings():
                on_warning(warning)
            yield found

    def _utterance(self, index: int, recording: Audio, channel: int | None, name: str | None = None) -> Utterance:
        require_recording(recording)
        spec = self.config.fbank
        if isinstance(recording, np.ndarray):
            name = name or f"waveform {index}"
            return make_utterance(name, check_waveform(name, recording), spec)
        found = read_utterance(recording, spec, channel=channel)
        return found._replace(name=name or found.name)


def list_recordings(audio: Audio | Sequence[Audio]) -> list[Audio]:
    """One recording or many as a list.

    Raises:
      UserError: it is neither.
    """
    if isinstance(audio, (str, Path, np.ndarray)):
        return [audio]
    if not isinstance(audio, Iterable):
        require_recording(audio)
    return list(audio)


def require_recording(recording: object) -> None:
    """Requires a file or a waveform.

    Raises:
      UserError: names the type that was given.
    """
    if not isinstance(recording, (str, Path, np.ndarray)):
        raise UserError(
            f"A recording is {recording!r:.60}, of type {type(recording).__name__}; valid: a path, or a NumPy array of "
            "samples [n] in [-1, 1]."
        )


def check_waveform(utterance: str, waveform: np.ndarray) -> Float[np.ndarray, " n"]:
    """Refuses an array that is no waveform.

    Args:
      utterance: what the message calls it.
      waveform: the array.

    Returns:
      The waveform.

    Raises:
      UserError: it is not one channel of finite floating-point samples, or they are absurdly large.
    """
    valid = "valid: one channel [n] of floating-point samples in [-1, 1]"
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise UserError(f"{utterance}: an array of shape {waveform.shape} and type {waveform.dtype}; {valid}.")
    if not np.isfinite(waveform).all():
        raise UserError(f"{utterance}: {np.count_nonzero(~np.isfinite(waveform))} samples are not finite; {valid}.")
    check_amplitude(utterance, float(np.abs(waveform).max(initial=0)))
    return waveform
