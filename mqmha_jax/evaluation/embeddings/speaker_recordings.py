"""Recordings of known speakers, as a cohort or for a back-end: a folder, or a list with paths and speakers."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.ids import plain_id
from mqmha_jax.data.metadata import read_metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder
from mqmha_jax.evaluation.embeddings.recordings import Utterance, embed_utterances, make_utterance, map_ahead
from mqmha_jax.features.audio import stream_audio
from mqmha_jax.features.audio_folder import audio_files, find_recordings
from mqmha_jax.features.part import Part
from mqmha_jax.types import Embeddings


class SpeakerRecordings:
    """Recordings with their speakers; ``FbankShards`` has the same attributes.

    Attributes:
      utterances: ids of N recordings.
      speakers: names, ascending.
      speaker: ``[N]`` positions of the speakers of the recordings among the names.
    """

    def __init__(self, files: dict[str, Path], speakers: dict[str, str], channel: int | None = None) -> None:
        """Numbers the speakers.

        Args:
          files: N recordings by id.
          speakers: the speaker of each.
          channel: the channel to take of each, from 0; None: the mean of all.
        """
        self.utterances, self._paths, self._channel = tuple(files), tuple(files.values()), channel
        names, numbers = np.unique([speakers[name] for name in self.utterances], return_inverse=True)
        self.speakers: tuple[str, ...] = tuple(names.tolist())
        self.speaker: Int[np.ndarray, " N"] = numbers

    def embed(
        self, embedder: Embedder, spec: FbankSpec, rows: Int[np.ndarray, " n"], *, max_frames: int, progress: bool
    ) -> Embeddings:
        """Embeds the beginning of some recordings.

        Args:
          embedder: the network.
          spec: its filterbank.
          rows: of the recordings.
          max_frames: of each.
          progress: show progress bars.

        Raises:
          UserError: a recording cannot be used.
        """
        longest = round(spec.sample_rate_hz * (max_frames * spec.frame_shift_ms + spec.frame_length_ms) / 1000)

        def read(row: int) -> Utterance:
            path = self._paths[row]
            waveform = _read_beginning(path, spec.sample_rate_hz, longest, self._channel)
            utterance = make_utterance(str(path), waveform, spec)
            return utterance._replace(fbank=utterance.fbank[:max_frames])

        groups = [*embed_utterances(embedder, map_ahead(read, rows.tolist()), progress=progress)]
        return Embeddings(
            tuple(self.utterances[row] for row in rows), np.concatenate([group.vectors for group in groups])
        )


def open_speaker_recordings(path: Path, root: Path | None, channel: int | None = None) -> SpeakerRecordings:
    """Finds recordings and their speakers; decodes nothing.

    Args:
      path: a folder with one folder per speaker (a recording beside these has a speaker of its own); or a list: a CSV
        with the columns ``path`` and ``speaker``, or Kaldi's ``utt2spk``.
      root: folder that the paths in a list start from; None: the folder of the list.
      channel: the channel to take of each, from 0; None: the mean of all.

    Raises:
      UserError: the list cannot be read or lacks a speaker, or there are no recordings.
    """
    if path.is_dir():
        files = {_id(file, root): file for file in audio_files(path)}
        folders = {name: file.relative_to(path).parts[0] for name, file in files.items()}
        return SpeakerRecordings(files, folders, channel)
    speakers = dict(read_metadata(path, every_speaker=True).utt2spk)
    if not speakers:
        raise UserError(f"{path}: has no column 'speaker'; a cohort needs the speaker of each recording.")
    root = path.parent if root is None else root
    found, missing = find_recordings(root, speakers)
    if missing:
        raise UserError(
            f"{path}: {len(missing):,} of {len(speakers):,} recordings are not below {root}, first {missing[0]!r}; "
            "give the folder that its paths start from with --audio, or correct the list."
        )
    return SpeakerRecordings(found, {plain_id(name): speaker for name, speaker in speakers.items()}, channel)


def _read_beginning(path: Path, sample_rate_hz: int, longest: int, channel: int | None) -> Float32[np.ndarray, " n"]:
    """Decodes no more than the first samples of a recording, which may be hours long."""
    blocks: list[np.ndarray] = []
    for block in stream_audio(path, sample_rate_hz, Part(channel=channel)):
        blocks.append(block)
        if sum(map(len, blocks)) >= longest:
            break
    return np.concatenate(blocks)[:longest]


def _id(file: Path, root: Path | None) -> str:
    """The id of a recording in lists: its path below their folder, or its whole path if it is elsewhere."""
    if root is not None and file.absolute().is_relative_to(root.absolute()):
        file = file.absolute().relative_to(root.absolute())
    return file.as_posix()
