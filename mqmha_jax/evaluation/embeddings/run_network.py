"""The network of a run with what is known of its training, and the data that scores are taken against."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from mqmha_jax.config_io import require_same_fbank
from mqmha_jax.data.joined_shards import open_training_shards, training_directories
from mqmha_jax.data.shard_format import INFO_NAME
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import Selection
from mqmha_jax.evaluation.embeddings.sources import Background, Labelled
from mqmha_jax.evaluation.embeddings.speaker_recordings import SpeakerRecordings, open_speaker_recordings
from mqmha_jax.evaluation.embeddings.speakers import average_units, sample_per_speaker
from mqmha_jax.evaluation.embeddings.training_mean import compute_training_mean, load_mean, save_mean
from mqmha_jax.models.speaker_net import fold_for_inference
from mqmha_jax.models.trusted_convolutions import trust_convolutions
from mqmha_jax.runs.checkpoint_directory import Step
from mqmha_jax.runs.data_paths import explain_path, locate_data
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.workdir import has_speakers, read_speakers
from mqmha_jax.say import Say, say_nothing
from mqmha_jax.types import Embeddings

# The mean embedding of a cohort speaker: number of utterances at most, and frames of each (three seconds).
_COHORT_UTTERANCES, _COHORT_FRAMES = 20, 300

# A back-end learns how embeddings of one speaker vary, and longer utterances vary less. The trials use whole
# utterances, most of which are at most this long.
_BACKEND_FRAMES = 1_000


class RunNetwork:
    """The network of a run, ready to embed.

    A cohort and the utterances of a back-end are shards, or recordings: a folder with one folder per speaker, or a list
    with paths and speakers.

    Attributes:
      config: of the run.
      step: of the checkpoint.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        audio: Path | None = None,
        channel: int | None = None,
        step: Step = None,
        progress: bool = True,
        say: Say = say_nothing,
    ) -> None:
        """Loads the network.

        Args:
          workdir: of the run.
          audio: folder that the paths in lists of recordings start from; None: the folder of the list.
          channel: the channel to take of these recordings, from 0; None: the mean of all.
          step: of the checkpoint; "best": with the lowest dev EER, None: the newest.
          progress: show progress bars.
          say: receives a sentence where the work directory cannot be written.

        Raises:
          UserError: there is no such checkpoint.
        """
        self._network = load_network(workdir, step)
        net = trust_convolutions(self._network.net, self._network.config.fbank.num_features)
        self._embedder = Embedder(*fold_for_inference(net, self._network.variables))
        self._workdir, self._audio, self._channel, self._progress, self._say = workdir, audio, channel, progress, say
        self.config, self.step = locate_data(self._network.config, workdir), self._network.step

    @property
    def name(self) -> str:
        """The run and its step."""
        return f"{self._workdir.name}, step {self.step}"

    @property
    def training_speakers(self) -> Sequence[str]:
        """Of the run, which keeps their names."""
        return read_speakers(self._workdir) if has_speakers(self._workdir) else ()

    def training_utterances(self) -> Iterable[str]:
        """Of the training shards, if they are on this machine."""
        try:
            data = dataclasses.replace(self.config.data, original_speed_only=True)
            return open_training_shards(data).utterances
        except UserError:
            return ()

    def background(self, cohort: Path | None, *, use_mean: bool) -> Background:
        """The mean of the training set, kept with the run, and one cohort vector for each speaker of the cohort.

        Raises:
          UserError: shards are missing or of another kind, or recordings cannot be used.
        """
        mean = self._mean() if use_mean else None
        return Background(mean, None if cohort is None else self._speaker_means(self._open_speakers(cohort), mean))

    def speakers_at(self, path: Path) -> tuple[str, ...]:
        """The speakers of shards, those at other speeds included, or of recordings.

        Raises:
          UserError: the shards are missing or of another kind, or there is no list or folder of recordings.
        """
        data = self._open_speakers(path)
        return tuple(data.speakers[i] for i in np.unique(data.speaker))

    def utterances_at(self, path: Path) -> Collection[str]:
        """The ids in shards, or the recordings below the folder of the lists; raises as ``speakers_at``."""
        return self._open_speakers(path).utterances

    def load_labelled(self, path: Path, *, per_speaker: int) -> Labelled:
        """Embeds some utterances, up to ten seconds of each; copies at another speed are left out.

        Raises:
          UserError: shards are missing or of another kind, or recordings cannot be used.
        """
        data = self._open_speakers(path, original_speed_only=True)
        rows = sample_per_speaker(data.speaker, per_speaker)
        found = self._embed_beginnings(data, rows, _BACKEND_FRAMES)
        return Labelled(found, tuple(data.speakers[i] for i in data.speaker[rows]))

    def _open(self, path: Path, *, original_speed_only: bool = False) -> FbankShards:
        shards = open_shards(path, original_speed_only=original_speed_only)
        require_same_fbank(self.config.fbank, shards.spec, f"The shards in {path}")
        return shards

    def _open_speakers(self, path: Path, *, original_speed_only: bool = False) -> FbankShards | SpeakerRecordings:
        if path.is_file() or (path.is_dir() and self._audio is not None and not (path / INFO_NAME).exists()):
            return open_speaker_recordings(path, self._audio, self._channel)
        return self._open(path, original_speed_only=original_speed_only)

    def _embed_beginnings(
        self, data: FbankShards | SpeakerRecordings, rows: Int[np.ndarray, " n"], max_frames: int
    ) -> Embeddings:
        """Embeds the first frames of some utterances."""
        if isinstance(data, FbankShards):
            return embed(self._embedder, Selection(data, rows, max_frames=max_frames), progress=self._progress)
        return data.embed(self._embedder, self.config.fbank, rows, max_frames=max_frames, progress=self._progress)

    def _mean(self) -> Float32[np.ndarray, " E"] | None:
        """The mean training embedding; None for an imported network, whose training set is not known."""
        mean = load_mean(self._workdir, self.step, self.config.model.embedding_dim)
        if mean is None and self.config.data.train:
            try:
                shards = open_training_shards(self.config.data)
            except UserError as error:
                where = explain_path(self._workdir, "data.train", training_directories(self.config.data)[0])
                raise UserError(
                    f"{error} {where} The mean training embedding comes from there; --no-mean scores without it."
                ) from error
            mean = compute_training_mean(self._embedder, shards)
            try:
                save_mean(self._workdir, mean, self.step)
            except UserError as error:  # the numbers are the same; the next evaluation computes the mean again
                self._say(f"The mean embedding is not kept: {error}")
        return mean

    def _speaker_means(
        self, data: FbankShards | SpeakerRecordings, mean: Float32[np.ndarray, " E"] | None
    ) -> Float32[np.ndarray, "n E"]:
        """The mean of each speaker's unit-length embeddings, in the order of ``speakers_at``."""
        chosen = sample_per_speaker(data.speaker, _COHORT_UTTERANCES)
        vectors = self._embed_beginnings(data, chosen, _COHORT_FRAMES).vectors
        return average_units(vectors if mean is None else vectors - mean[None], data.speaker[chosen])
