"""From recordings to a directory of fbank shards, over all cores."""

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float16
from tqdm import tqdm

from data_prep.manifest import Recording
from data_prep.ordered_map import ordered_map
from data_prep.versions import VersionPlan, random_generator, versions
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_writer import UtteranceFbank, shard_writer
from mqmha_jax.errors import UserError

REJECTED_NAME = "rejected.jsonl"


class Rejection(NamedTuple):
    """A recording that is not in the shards, and why."""

    utterance: str
    path: str
    reason: str


class BuildReport(NamedTuple):
    """What became of a corpus.

    Attributes:
      num_recordings: recordings in the corpus.
      num_utterances: utterances written, all versions.
      num_speakers: speakers written, those of other speeds included.
      num_frames: frames written.
      rejected: recordings left out.
    """

    num_recordings: int
    num_utterances: int
    num_speakers: int
    num_frames: int
    rejected: tuple[Rejection, ...]


class _Fbank(NamedTuple):
    """One version of a recording as a worker returns it."""

    utterance: str
    speaker: str
    speed_index: int
    attributes: dict[str, str]
    fbank: Float16[np.ndarray, "T F"]


def build_shards(
    recordings: Sequence[Recording],
    directory: str | Path,
    *,
    spec: FbankSpec,
    plan: VersionPlan | None = None,
    provenance: Mapping[str, Any],
    num_workers: int,
    max_rejected: int,
    progress: bool = True,
) -> BuildReport:
    """Reads every recording, makes its versions, computes their filterbanks and writes them in order.

    The bytes written do not depend on ``num_workers``. Recordings that can not be read are listed in ``rejected.jsonl``
    beside the shards, with path and reason; all versions of a recording are in the shards, or none.

    Args:
      recordings: the corpus.
      directory: the shards; must not exist yet, and appears when complete.
      spec: the filterbank.
      plan: versions of every recording, at the rate of ``spec``; None: only the recording itself.
      provenance: written into the shards as it is.
      num_workers: worker processes; 0 does the work in this process.
      max_rejected: more unreadable recordings than this end the job.
      progress: show a bar on standard error.

    Raises:
      UserError: too many recordings were rejected, none was left, an id appears twice, the directory exists, the disk
        is full, or a noise or a room of the plan can not be read.
    """
    plan = plan or VersionPlan(sample_rate_hz=spec.sample_rate_hz)
    work = functools.partial(_versions_as_fbank, spec=spec, plan=plan)
    class_order: dict[str, tuple[int, str]] = {}
    rejected: list[Rejection] = []
    num_frames = 0
    with (
        shard_writer(directory, spec=spec, provenance=provenance, speaker_key=class_order.__getitem__) as writer,
        contextlib.closing(ordered_map(work, recordings, num_workers)) as results,
        tqdm(recordings, unit="recording", disable=not progress) as bar,
    ):
        for recording, result in zip(bar, results, strict=True):
            if isinstance(result, Rejection):
                rejected.append(result)
                if len(rejected) > max_rejected:
                    raise UserError(_too_many(rejected, max_rejected, writer.num_utterances))
                continue
            for version in result:
                class_order[version.speaker] = (version.speed_index, recording.speaker)
                writer.add(UtteranceFbank(version.utterance, version.speaker, version.fbank, version.attributes))
                num_frames += len(version.fbank)
        if not writer.num_utterances:
            raise UserError(_too_many(rejected, max_rejected, 0) if rejected else "There are no recordings.")
        lines = [json.dumps(rejection._asdict(), ensure_ascii=False) + "\n" for rejection in rejected]
        (writer.directory / REJECTED_NAME).write_text("".join(lines), errors="surrogateescape")
        num_utterances = writer.num_utterances
    return BuildReport(len(recordings), num_utterances, len(class_order), num_frames, tuple(rejected))


def _versions_as_fbank(recording: Recording, *, spec: FbankSpec, plan: VersionPlan) -> list[_Fbank] | Rejection:
    from mqmha_jax.features.fbank import extract_fbank  # here: the worker limits XLA's threads first

    def fbank(utterance: str, waveform: np.ndarray) -> Float16[np.ndarray, "T F"]:
        seed = int(random_generator(plan.seed, f"{utterance}#dither").integers(2**31))
        return extract_fbank(waveform, spec, seed).astype(np.float16)

    try:
        waveform = recording.waveform(spec.sample_rate_hz)
    except UserError as error:
        return Rejection(recording.utterance, recording.origin, str(error))
    # A noise that can not be read is no fault of the recording: its error ends the job.
    made = list(versions(recording, waveform, plan))
    try:
        return [_Fbank(*version[:4], fbank(version.utterance, version.waveform)) for version in made]
    except UserError as error:
        return Rejection(recording.utterance, recording.origin, str(error))


def _too_many(rejected: Sequence[Rejection], max_rejected: int, num_accepted: int) -> str:
    shown = "\n".join(f"  {rejection.path}: {rejection.reason}" for rejection in rejected[:5])
    more = f"\n  and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    return (
        f"{len(rejected)} recordings could not be used ({num_accepted} utterances could, and are removed again); at "
        f"most {max_rejected} may be left out:\n{shown}{more}\nMend them, or allow more with --max-rejected."
    )
