"""Embeddings by the network of a run, of utterances in shards."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from mqmha_jax.data.metadata import join_metadata, shard_metadata
from mqmha_jax.data.shard_reader import FbankShards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import embed
from mqmha_jax.evaluation.embeddings.run_network import RunNetwork
from mqmha_jax.evaluation.embeddings.selection import select_utterances
from mqmha_jax.runs.checkpoint_directory import Step
from mqmha_jax.runs.data_paths import explain_path
from mqmha_jax.say import Say, say_nothing
from mqmha_jax.types import Embeddings


class RunSource(RunNetwork):
    """The network of a run, and shards with the utterances."""

    left_out: Collection[str] = ()

    def __init__(
        self,
        workdir: Path,
        data: Sequence[Path] = (),
        further_data: Sequence[Path] = (),
        *,
        step: Step = None,
        progress: bool = True,
        say: Say = say_nothing,
    ) -> None:
        """Loads the network and opens the shards.

        Args:
          workdir: of the run.
          data: directories of shards; none: the run's dev shards.
          further_data: directories in addition to ``data`` or the run's dev shards.
          step, progress, say: as for ``RunNetwork``.

        Raises:
          UserError: there is no such checkpoint, shards are missing or of another kind, or two hold one utterance.
        """
        super().__init__(workdir, step=step, progress=progress, say=say)
        dev = self.config.data.dev
        if not data and not dev:
            raise UserError(
                f"The run in {workdir} has no dev shards; name the shards and the lists with --data DIR --trials FILE."
            )
        first = {path.resolve(): self._open(path) for path in data} or {Path(dev).resolve(): self._open_dev(dev)}
        further = {path.resolve(): path for path in further_data if path.resolve() not in first}
        self._shards = [*first.values(), *map(self._open, further.values())]
        parts = [shard_metadata(shards) for shards in self._shards]
        self.known = join_metadata(parts)
        self.utterances = self.known.utt2spk.keys()
        if len(self.utterances) < sum(map(len, self._shards)):
            twice, _ = Counter(utterance for part in parts for utterance in part.utt2spk).most_common(1)[0]
            raise UserError(f"Utterance {twice!r} is in two of the directories of shards; rename it in one.")

    def _open_dev(self, dev: str) -> FbankShards:
        try:
            return self._open(Path(dev))
        except UserError as error:
            where = explain_path(self._workdir, "data.dev", dev)
            raise UserError(f"{error} {where} Name other shards and lists with --data DIR --trials FILE.") from error

    def embeddings(self, utterances: Collection[str]) -> Embeddings:
        """Embeds these utterances, those of one directory after the other."""
        selections = [select_utterances(shards, utterances) for shards in self._shards]
        parts = [embed(self._embedder, chosen, progress=self._progress) for chosen in selections if chosen.utterances]
        return Embeddings(tuple(u for part in parts for u in part.ids), np.concatenate([p.vectors for p in parts]))
