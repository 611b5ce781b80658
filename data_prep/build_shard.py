"""One piece of a corpus becomes one file of shards. Local processes, array jobs and Beam all call this function."""

import contextlib
import json
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydantic
from jaxtyping import Float, Float16

from data_prep.manifest import Recording
from data_prep.measures import waveform_measures
from data_prep.ordered_map import now_at
from data_prep.shard_options import ShardOptions
from data_prep.versions import random_generator, versions
from mqmha_jax.atomic import replacing
from mqmha_jax.data.shard_file import ShardFileWriter, UtteranceFbank, naming_a_full_disk
from mqmha_jax.data.shard_format import SPEED_MARK, ShardFile
from mqmha_jax.data.shard_table import Table, load_table, save_table
from mqmha_jax.errors import UserError

GRACE_SECONDS = 60.0
"""A worker that is still at a recording so long after the limit ends itself: it hangs where no signal reaches it."""


class Rejection(NamedTuple):
    """A recording that is not in the shards, and why."""

    utterance: str
    path: str
    reason: str


class Part(NamedTuple):
    """One finished file of a directory that is not complete yet.

    Attributes:
      file: what to note about it.
      table: its utterances.
      rejected: recordings of the piece that are not in it.
    """

    file: ShardFile
    table: Table
    rejected: tuple[Rejection, ...]


def build_shard(recordings: Sequence[Recording], path: Path, part_path: Path, *, options: ShardOptions) -> Part:
    """Reads every recording of a piece, makes its versions, computes their filterbanks and writes them in order.

    The bytes are a function of the recordings and the options, wherever this runs. All versions of a recording are in
    the file, or none.

    Args:
      recordings: of the piece.
      path: the file of frames; appears whole.
      part_path: table and rejections; appears last, so where it is, the part is finished.
      options: what is made of each recording.

    Raises:
      UserError: the disk is full, an id appears twice, or a noise or a room of the plan can not be read.
    """
    rejected = []
    with naming_a_full_disk(path, "The parts that are finished stay, and the same command goes on from there."):
        with replacing(path) as temporary:
            writer = ShardFileWriter(temporary, options.spec, options.coding)
            try:
                for recording in recordings:
                    made = _utterances(recording, options)
                    if isinstance(made, Rejection):
                        rejected.append(made)
                        continue
                    for utterance in made:
                        writer.add(utterance)
                file, table = writer.close()
            finally:
                writer.abandon()
        part = Part(file, table, tuple(rejected))
        with replacing(part_path) as temporary:
            _save(temporary, part)
    return part


def load_part(part_path: Path) -> Part:
    """Reads what ``build_shard`` wrote at ``part_path``.

    Raises:
      UserError: the file is damaged.
    """
    table = load_table(part_path)
    try:
        noted = json.loads(table.pop("part").tobytes())
        rejected = tuple(Rejection(**rejection) for rejection in noted["rejected"])
        return Part(ShardFile.model_validate(noted["file"]), table, rejected)
    except (KeyError, TypeError, ValueError, pydantic.ValidationError) as error:
        raise UserError(f"{part_path} is damaged ({error}); remove it and run the same command again.") from error


def _save(path: Path, part: Part) -> None:
    noted = {"file": part.file.model_dump(), "rejected": [rejection._asdict() for rejection in part.rejected]}
    save_table(path, {**part.table, "part": np.frombuffer(json.dumps(noted).encode(), np.uint8)})


def _utterances(recording: Recording, options: ShardOptions) -> list[UtteranceFbank] | Rejection:
    now_at(recording.origin, options.timeout_seconds + GRACE_SECONDS)
    try:
        with _time_limit(options.timeout_seconds):
            return _versions_as_fbank(recording, options)
    except _Unusable as error:
        return Rejection(recording.utterance, recording.origin, str(error))
    finally:
        now_at("", 0)


def _versions_as_fbank(recording: Recording, options: ShardOptions) -> list[UtteranceFbank]:
    """Raises _Unusable for what is the recording's fault, and UserError for what is not, such as a noise."""
    from mqmha_jax.features.fbank import extract_fbank  # here: the worker limits XLA's threads first

    spec, plan = options.spec, options.plan

    def fbank(utterance: str, waveform: Float[np.ndarray, " n"]) -> Float16[np.ndarray, "T F"]:
        seed = int(random_generator(plan.seed, f"{utterance}#dither").integers(2**31))
        frames = extract_fbank(waveform, spec, seed)
        if not np.isfinite(frames).all():
            raise UserError("its samples are so large that the filterbank overflows; full scale is 1.")
        return frames.astype(np.float16)

    with _blaming_the_recording():
        _check_names(recording)
        waveform = recording.waveform(spec.sample_rate_hz)
    made = []
    for version in versions(recording, waveform, plan):
        with _blaming_the_recording():
            frames = fbank(version.utterance, version.waveform)
        measures = waveform_measures(version.waveform, spec.sample_rate_hz)
        made.append(UtteranceFbank(version.utterance, version.speaker, frames, version.attributes, measures))
    return made


class _Unusable(Exception):  # noqa: N818 - it names a recording's state
    """The recording can not be used; the message says why."""


@contextlib.contextmanager
def _blaming_the_recording() -> Iterator[None]:
    try:
        yield
    except _Unusable:
        raise
    except UserError as error:
        raise _Unusable(str(error)) from error
    except MemoryError as error:
        raise _Unusable("does not fit into memory; cut it into shorter files.") from error
    except Exception as error:  # one file of a million that a decoder stumbles over in its own way; all are counted
        raise _Unusable(f"can not be used ({type(error).__name__}: {error}).") from error


def _check_names(recording: Recording) -> None:
    try:
        "".join([recording.utterance, recording.speaker, *recording.attributes.values()]).encode()
    except UnicodeEncodeError:
        raise UserError("its name is not valid UTF-8; rename the file.") from None
    if SPEED_MARK in recording.speaker:
        raise UserError(f"its speaker {recording.speaker!r} holds {SPEED_MARK!r}, which marks copies at other speeds.")


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _Unusable inside after so long; without effect in a thread, where no signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def too_long(*_: object) -> None:
        raise _Unusable(f"took longer than {seconds:g} s; it hangs or is huge. Leave it out, or allow more: --timeout.")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
