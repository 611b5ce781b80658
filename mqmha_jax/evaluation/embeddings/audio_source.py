"""Embeddings by the network of a run, of the recordings that trial lists name; no shards are needed."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from mqmha_jax.data.metadata import SECONDS, Metadata
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.evaluation.embeddings.recordings import (
    Utterance,
    embed_utterances,
    map_ahead,
    read_middle,
    read_utterance,
)
from mqmha_jax.evaluation.embeddings.run_network import RunNetwork
from mqmha_jax.features.audio_folder import find_recordings
from mqmha_jax.runs.checkpoint_directory import Step
from mqmha_jax.say import Say, say_nothing
from mqmha_jax.types import Embeddings

_NAMED = 3


class AudioFolder(NamedTuple):
    """Where the recordings of lists are, and how they are read.

    Attributes:
      root: folder that the ids start from.
      channel: the channel to take, from 0; None: the mean of all.
      max_rejected: leave out at most this many recordings that are missing or cannot be used, with their trials.
    """

    root: Path
    channel: int | None = None
    max_rejected: int = 0


class AudioSource(RunNetwork):
    """The network of a run, and a folder with the recordings.

    Attributes:
      paths: files of the recordings that are there, by id.
      utterances: their ids.
      left_out: ids of those that are missing or, once ``embeddings`` has read them, cannot be used.
      known: speakers, and the seconds of those that are embedded.
    """

    def __init__(
        self,
        workdir: Path,
        folder: AudioFolder,
        utterances: Sequence[str],
        speakers: Mapping[str, str],
        *,
        step: Step = None,
        progress: bool = True,
        say: Say = say_nothing,
    ) -> None:
        """Finds the recordings and loads the network.

        Args:
          workdir: of the run.
          folder: with the recordings.
          utterances: ids that the lists name: paths below the folder.
          speakers: of the utterances, as far as they are known.
          step, progress, say: as for ``RunNetwork``; ``say`` also receives what is doubtful about the recordings.

        Raises:
          UserError: more recordings are missing than may be left out, or there is no such folder or checkpoint.
        """
        self.paths, missing = find_recordings(folder.root, utterances)
        self._folder = folder
        self.left_out = set(missing)
        if not self.paths:
            raise UserError(
                f"None of {count_noun(len(missing), 'recording')} in the lists is below {folder.root}; there is no "
                f"{folder.root / missing[0]} for instance. --audio is the folder that the ids in the lists start from."
            )
        if len(missing) > folder.max_rejected:
            named = ", ".join(sorted(missing)[:_NAMED]) + (" and more" if len(missing) > _NAMED else "")
            raise UserError(
                f"{len(missing):,} of {count_noun(len(missing) + len(self.paths), 'recording')} in the lists are not "
                f"below {folder.root}: {named}. Add them, or give --max-rejected {len(missing)} to leave out their "
                "trials."
            )
        super().__init__(workdir, audio=folder.root, channel=folder.channel, step=step, progress=progress, say=say)
        self.utterances = self.paths.keys()
        self.known = Metadata(speakers, {})

    @property
    def name(self) -> str:
        """The run, its step and the folder."""
        return f"{super().name}, from the audio below {self._folder.root}"

    def embeddings(self, utterances: Collection[str]) -> Embeddings:
        """Embeds these recordings, without those that cannot be used.

        Raises:
          UserError: more of them cannot be used than may be left out, or none can.
        """
        seconds: dict[str, str | float] = {}
        doubts: list[str] = []

        def note(utterance: Utterance) -> None:
            seconds[utterance.name] = utterance.num_frames * (self.config.fbank.frame_shift_ms / 1000)
            doubts.extend(utterance.warnings())

        def read(name: str) -> Utterance:
            found = read_utterance(self.paths[name], self.config.fbank, channel=self._folder.channel)
            return found._replace(name=name)

        found = self.embed_heard(utterances, read, on_error=self._leave_out, note=note)
        if doubts:
            more = f" ({len(doubts):,} such warnings; this is the first)" if len(doubts) > 1 else ""
            self._say(f"Warning: {doubts[0]}{more}")
        self.known = self.known._replace(columns={SECONDS: seconds})
        return found

    def embed_heard(
        self,
        utterances: Collection[str],
        hear: Callable[[str], Utterance],
        *,
        on_error: Callable[[str, UserError], object],
        note: Callable[[Utterance], object] = lambda utterance: None,
        title: str = "embed",
    ) -> Embeddings:
        """Embeds these recordings under a condition, such as a codec.

        Args:
          utterances: ids.
          hear: makes the utterance of an id; called in threads.
          on_error: called with the id and the reason of each recording that cannot be used; it is left out.
          note: called with every other one.
          title: of the progress bar.

        Raises:
          UserError: none can be used.
        """
        asked = {*utterances}
        wanted = [name for name in self.paths if name in asked]

        def read(name: str) -> Utterance | UserError:
            try:
                return hear(name)
            except UserError as error:
                return error

        def usable() -> Iterator[Utterance]:
            with tqdm(total=len(wanted), unit="file", desc=title, disable=not self._progress, leave=False) as bar:
                for name, found in zip(wanted, map_ahead(read, wanted), strict=True):
                    bar.update()
                    if isinstance(found, UserError):
                        on_error(name, found)
                        continue
                    note(found)
                    yield found

        groups = list(embed_utterances(self._embedder, usable()))
        if not groups:
            raise UserError(f"None of {count_noun(len(wanted), 'recording')} can be used.")
        return Embeddings(
            tuple(name for group in groups for name in group.ids), np.concatenate([group.vectors for group in groups])
        )

    def load(self, name: str) -> Float32[np.ndarray, " n"]:
        """Decodes what of a recording is embedded, at the sample rate of the network.

        Raises:
          UserError: it cannot be used.
        """
        return read_middle(self.paths[name], self.config.fbank, channel=self._folder.channel).waveform

    def _leave_out(self, name: str, error: UserError) -> None:
        self.left_out.add(name)
        if len(self.left_out) > self._folder.max_rejected:
            number = len(self.left_out)
            raise UserError(
                f"{error} It is number {number} of the recordings that are missing or cannot be used; --max-rejected "
                f"{number} leaves out that many, with their trials."
            ) from error
        self._say(f"Left out: {error}")
