"""Embeds recordings: reads them ahead, and holds a bounded amount of audio for any number of files."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Int64

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.batch_plan import MAX_FRAMES
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.features.audio import read_audio, stream_audio
from mqmha_jax.features.fbank import extract_fbank, num_frames
from mqmha_jax.features.part import Part
from mqmha_jax.features.speech_evidence import SpeechEvidence, SpeechMeter, measure_speech
from mqmha_jax.types import Embeddings

FRAMES_AT_ONCE = 1 << 18
"""Frames of fbank in memory at a time: 80 MB at 80 bands, 44 minutes of audio."""

ONE_BY_ONE = 16
"""Batches have a fixed number of rows, mostly filler for few recordings: up to this number, each is a batch of its
own."""

READERS = 2
"""Threads that decode audio."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Utterance(NamedTuple):
    """A recording as frames, and the speech in it.

    Attributes:
      name: what messages and results call it.
      fbank: the frames that are embedded: all, or the middle ``MAX_FRAMES`` of a longer recording.
      num_frames: frames of the whole recording.
      evidence: how much speech it holds.
    """

    name: str
    fbank: Float32[np.ndarray, "T F"]
    num_frames: int
    evidence: SpeechEvidence

    def warnings(self) -> list[str]:
        """Sentences on what makes the embedding doubtful; mostly none."""
        said = []
        if concerns := self.evidence.concerns():
            said.append(f"{self.name}: {', '.join(concerns)}; its embedding says little about the speaker.")
        if len(self.fbank) < self.num_frames:
            share = len(self.fbank) / self.num_frames
            minutes = self.evidence.duration_s / 60
            said.append(
                f"{self.name}: lasts {minutes:.0f} min; only its middle {minutes * share:.0f} min are embedded."
            )
        return said


def make_utterance(name: str, waveform: Float[np.ndarray, " n"], spec: FbankSpec) -> Utterance:
    """Computes the frames of a recording and measures its speech.

    Args:
      name: of the recording.
      waveform: samples in [-1, 1] at ``spec.sample_rate_hz``.
      spec: the filterbank.

    Raises:
      UserError: the recording is shorter than one analysis window; the message starts with the name.
    """
    try:
        fbank = extract_fbank(waveform, spec, max_frames=MAX_FRAMES)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    evidence = measure_speech(waveform, spec.sample_rate_hz)
    return Utterance(name, fbank, num_frames(len(waveform), spec), evidence)


class Middle(NamedTuple):
    """What of a recording is embedded.

    Attributes:
      waveform: the whole recording, or as much of its middle as ``MAX_FRAMES`` need.
      num_samples: of the whole recording.
      evidence: measures of the whole recording.
    """

    waveform: Float32[np.ndarray, " n"]
    num_samples: int
    evidence: SpeechEvidence


def read_middle(path: str | Path, spec: FbankSpec, *, channel: int | None = None) -> Middle:
    """Reads what of a file is embedded, in memory that does not grow with its length.

    A long file is decoded twice, because only decoding tells where its middle is.

    Args:
      path: of the file.
      spec: the filterbank.
      channel: as in ``Part``.

    Raises:
      UserError: as ``read_audio``.
    """
    rate_hz = spec.sample_rate_hz
    longest = round(rate_hz * (MAX_FRAMES * spec.frame_shift_ms + spec.frame_length_ms) / 1000)
    meter = SpeechMeter(rate_hz)
    kept: list[np.ndarray] = []
    length = 0
    for block in stream_audio(path, rate_hz, Part(channel=channel)):
        meter.add(block)
        length += len(block)
        if length <= longest:
            kept.append(block)
        else:
            kept.clear()
    if length <= longest:
        waveform = np.concatenate(kept)
    else:
        start_s = (num_frames(length, spec) - MAX_FRAMES) // 2 * spec.frame_shift_ms / 1000
        waveform = read_audio(path, rate_hz, Part(start_s, start_s + longest / rate_hz, channel))
    return Middle(waveform, length, meter.evidence())


def read_utterance(path: str | Path, spec: FbankSpec, *, channel: int | None = None) -> Utterance:
    """``make_utterance`` of a file, in memory that does not grow with its length.

    Args:
      path: of the file.
      spec: the filterbank.
      channel: as in ``Part``.

    Raises:
      UserError: as ``read_audio`` and ``make_utterance``.
    """
    middle = read_middle(path, spec, channel=channel)
    utterance = make_utterance(str(path), middle.waveform, spec)
    return utterance._replace(num_frames=num_frames(middle.num_samples, spec), evidence=middle.evidence)


def embed_utterances(
    embedder: Embedder, utterances: Iterable[Utterance], *, progress: bool = False
) -> Iterator[Embeddings]:
    """Embeds any number of utterances, about 44 minutes of audio at a time, in batches of similar length.

    Args:
      embedder: the network.
      utterances: made when needed.
      progress: show a progress bar for each group.

    Yields:
      Embeddings of the next utterances, in their order.
    """
    for group in _group(utterances):
        few = {"frames_per_batch": 1} if len(group.utterances) <= ONE_BY_ONE else {}
        yield embed(embedder, group, progress=progress, **few)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int = READERS
) -> Iterator[Result]:
    """``map`` in threads that work ahead of the caller, in the order of the items; decoding releases Python's lock.

    Args:
      function: called with one item; what it raises is raised in the place of its result.
      items: taken a few ahead of the results.
      num_threads: number of items in work at a time.

    Yields:
      The results, in order.
    """
    pool = concurrent.futures.ThreadPoolExecutor(num_threads)
    waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where the caller stops early
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class UtteranceGroup:
    """Utterances in memory, as ``embed`` reads them."""

    utterances: tuple[str, ...]
    fbanks: tuple[Float32[np.ndarray, "_ F"], ...]

    @property
    def num_frames(self) -> Int64[np.ndarray, " N"]:
        """Frames of each."""
        return np.array([len(fbank) for fbank in self.fbanks], np.int64)

    def fbank(self, index: int) -> Float32[np.ndarray, "T F"]:
        """Frames of one."""
        return self.fbanks[index]


def _group(utterances: Iterable[Utterance]) -> Iterator[UtteranceGroup]:
    """Groups utterances so that a group's fbank fits in memory."""
    group: list[tuple[str, np.ndarray]] = []
    frames = 0
    for utterance in utterances:
        group.append((utterance.name, utterance.fbank))
        frames += len(utterance.fbank)
        if frames >= FRAMES_AT_ONCE:
            yield UtteranceGroup(*zip(*group, strict=True))
            group, frames = [], 0
    if group:
        yield UtteranceGroup(*zip(*group, strict=True))
