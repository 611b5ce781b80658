"""Embeddings by the network of a run, of utterances in shards."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from mqmha_jax.config_io import require_same_fbank
from mqmha_jax.data.metadata import join_metadata, shard_metadata
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import Selection, select_utterances
from mqmha_jax.evaluation.embeddings.sources import Background, Labelled
from mqmha_jax.evaluation.embeddings.speakers import sample_per_speaker, sum_per_speaker
from mqmha_jax.evaluation.embeddings.training_mean import compute_training_mean, load_mean, save_mean
from mqmha_jax.models.head import unit_length
from mqmha_jax.models.speaker_net import fold_for_inference
from mqmha_jax.runs.checkpoint_directory import Step
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.workdir import has_speakers, read_speakers
from mqmha_jax.types import Embeddings

# The mean embedding of a cohort speaker: number of utterances, and frames of each (three seconds).
_COHORT_UTTERANCES, _COHORT_FRAMES = 20, 300

# A back-end learns how embeddings of one speaker vary, and longer utterances vary less. The trials use whole
# utterances, most of which are at most this long.
_BACKEND_FRAMES = 1_000


class RunSource:
    """The network of a run, and shards with the utterances."""

    def __init__(
        self,
        workdir: Path,
        data: Sequence[Path] = (),
        further_data: Sequence[Path] = (),
        *,
        step: Step = None,
        progress: bool = True,
        say: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        """Loads the network and opens the shards.

        Args:
          workdir: of the run.
          data: directories of shards; none: the run's dev shards.
          further_data: more of them, in any case.
          step: of the checkpoint; "best": with the lowest dev EER, None: the newest.
          progress: show progress bars.
          say: receives a sentence where the work directory cannot be written.

        Raises:
          UserError: there is no such checkpoint, shards are missing or of another kind, or two hold one utterance.
        """
        self._network = load_network(workdir, step)
        self._embedder = Embedder(*fold_for_inference(self._network.net, self._network.variables))
        self._workdir, self._progress, self._say = workdir, progress, say
        self.config, self.step = self._network.config, self._network.step
        dev = self.config.data.dev
        if not data and not dev:
            raise UserError(
                f"The run in {workdir} has no dev shards; name the shards and the lists with --data DIR --trials FILE."
            )
        self._shards = [self._open(path) for path in dict.fromkeys([*(data or [Path(dev)]), *further_data])]
        parts = [shard_metadata(shards) for shards in self._shards]
        self.known = join_metadata(parts)
        self.utterances = self.known.utt2spk.keys()
        if len(self.utterances) < sum(map(len, self._shards)):
            twice, _ = Counter(utterance for part in parts for utterance in part.utt2spk).most_common(1)[0]
            raise UserError(f"Utterance {twice!r} is in two of the directories of shards; rename it in one.")

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
            return open_shards(self.config.data.train, original_speed_only=True).utterances
        except UserError:
            return ()

    def background(self, cohort: Path | None, *, use_mean: bool) -> Background:
        """The mean of the training set, kept with the run, and one cohort vector for each speaker of shards.

        Raises:
          UserError: the shards are missing or of another kind.
        """
        mean = self._mean() if use_mean else None
        return Background(mean, None if cohort is None else self._speaker_means(self._open(cohort), mean))

    def speakers_at(self, path: Path) -> tuple[str, ...]:
        """The speakers of shards, those at other speeds included.

        Raises:
          UserError: the shards are missing or of another kind.
        """
        shards = self._open(path)
        return tuple(shards.speakers[i] for i in np.unique(shards.speaker))

    def load_labelled(self, path: Path, *, per_speaker: int) -> Labelled:
        """Embeds some utterances of shards, up to ten seconds of each; copies at another speed are left out.

        Raises:
          UserError: the shards are missing or of another kind.
        """
        shards = self._open(path, original_speed_only=True)
        rows = sample_per_speaker(shards.speaker, per_speaker)
        found = embed(self._embedder, Selection(shards, rows, max_frames=_BACKEND_FRAMES), progress=self._progress)
        return Labelled(found, tuple(shards.speakers[i] for i in shards.speaker[rows]))

    def embeddings(self, utterances: Collection[str]) -> Embeddings:
        """Embeds these utterances, those of one directory after the other."""
        selections = [select_utterances(shards, utterances) for shards in self._shards]
        parts = [embed(self._embedder, chosen, progress=self._progress) for chosen in selections if chosen.utterances]
        return Embeddings(tuple(u for part in parts for u in part.ids), np.concatenate([p.vectors for p in parts]))

    def _open(self, path: Path, *, original_speed_only: bool = False) -> FbankShards:
        shards = open_shards(path, original_speed_only=original_speed_only)
        require_same_fbank(self.config.fbank, shards.spec, f"The shards in {path}")
        return shards

    def _mean(self) -> Float32[np.ndarray, " E"] | None:
        """The mean training embedding; None for an imported network, whose training set is not known."""
        mean = load_mean(self._workdir, self.step, self.config.model.embedding_dim)
        if mean is None and self.config.data.train:
            try:
                shards = open_shards(self.config.data.train)
            except UserError as error:
                raise UserError(
                    f"{error} The mean training embedding comes from there; --no-mean scores without it."
                ) from error
            mean = compute_training_mean(self._embedder, shards)
            try:
                save_mean(self._workdir, mean, self.step)
            except UserError as error:  # the numbers are the same; the next evaluation computes the mean again
                self._say(f"The mean embedding is not kept: {error}")
        return mean

    def _speaker_means(self, shards: FbankShards, mean: Float32[np.ndarray, " E"] | None) -> Float32[np.ndarray, "n E"]:
        """The mean of each speaker's unit-length embeddings, in the order of ``speakers_at``."""
        order = np.argsort(shards.speaker, kind="stable")
        rank = np.arange(len(order)) - np.searchsorted(shards.speaker[order], shards.speaker[order])
        chosen = order[rank < _COHORT_UTTERANCES]
        source = Selection(shards, chosen, max_frames=_COHORT_FRAMES)
        vectors = embed(self._embedder, source, progress=self._progress).vectors
        units = np.asarray(unit_length(jnp.asarray(vectors if mean is None else vectors - mean[None])))
        _, index, counts = np.unique(shards.speaker[chosen], return_inverse=True, return_counts=True)
        return (sum_per_speaker(units.astype(np.float64), index) / counts[:, None]).astype(np.float32)
