"""Turns one piece of a corpus into one file of shards. Local processes, array jobs and Beam call this function."""

import contextlib
import dataclasses
import functools
import json
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float16

from data_prep.findings import Finding, parse_finding
from data_prep.manifest import Recording
from data_prep.measures import waveform_measures
from data_prep.ordered_map import now_at
from data_prep.shard_options import ShardOptions
from data_prep.versions import random_generator, versions
from mqmha_jax.atomic import replacing
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_file import ShardFileWriter, UtteranceFbank, name_full_disk
from mqmha_jax.data.shard_format import SPEED_MARK, ShardFile
from mqmha_jax.data.shard_table import Table, load_table, save_table
from mqmha_jax.errors import UserError
from mqmha_jax.features.mixdown import check_amplitude
from mqmha_jax.features.speech_evidence import SpeechEvidence, measure_speech
from mqmha_jax.json_file import parse_json

GRACE_SECONDS = 60.0
"""A worker that works on a recording this long after the limit ends itself: it hangs where signals cannot reach it."""


class Part(NamedTuple):
    """One finished file of a directory that is still incomplete.

    Attributes:
      file: its entry in ``shards.json``.
      table: its utterances.
      rejected: recordings of the piece that the file leaves out.
      doubtful: recordings in the file with little speech or many clipped samples.
    """

    file: ShardFile
    table: Table
    rejected: tuple[Finding, ...]
    doubtful: tuple[Finding, ...]


def build_shard(recordings: Sequence[Recording], path: Path, part_path: Path, *, options: ShardOptions) -> Part:
    """Reads every recording of a piece, makes its versions, computes their filterbanks and writes them in order.

    The bytes depend only on the recordings and the options. The file holds all versions of a recording or none.

    Args:
      recordings: of the piece.
      path: the file of frames; appears whole.
      part_path: table and findings; appears last and so marks a finished part.
      options: what to make of each recording.

    Raises:
      UserError: the disk is full, an id appears twice, or a noise or a room of the plan cannot be read.
    """
    _check_filterbank(options.spec)
    rejected, doubtful = list[Finding](), list[Finding]()
    with name_full_disk(path, "Finished parts stay; run the same command again to resume."):
        with replacing(path) as temporary:
            writer = ShardFileWriter(temporary, options.spec, options.coding)
            try:
                for recording in recordings:
                    made = _make_utterances(recording, options)
                    if isinstance(made, Finding):
                        rejected.append(made)
                        continue
                    for utterance in made.utterances:
                        writer.add(utterance)
                    if made.concerns:
                        doubtful.append(Finding(recording.utterance, recording.origin, "; ".join(made.concerns)))
                file, table = writer.close()
            finally:
                writer.abandon()
        part = Part(file, table, tuple(rejected), tuple(doubtful))
        with replacing(part_path) as temporary:
            _save(temporary, part)
    return part


@functools.lru_cache(maxsize=4)
def _check_filterbank(spec: FbankSpec) -> None:
    """Refuses a filterbank that fits no recording, before it rejects every one of them."""
    import jax  # here and below: the worker limits XLA's threads first

    from mqmha_jax.features.fbank import log_mel_fbank

    second = jax.ShapeDtypeStruct((spec.sample_rate_hz,), np.float32)
    jax.eval_shape(functools.partial(log_mel_fbank, spec=dataclasses.replace(spec, dither=0.0)), second)


def load_part(part_path: Path) -> Part:
    """Reads what ``build_shard`` wrote at ``part_path``.

    Raises:
      UserError: the file is damaged.
    """
    table = load_table(part_path)
    advice = "Remove the file and run the same command again."
    try:
        noted = parse_json(table.pop("part").tobytes(), dict, where=str(part_path), advice=advice)
        rejected, doubtful = (_parse_findings(noted[name], part_path) for name in ("rejected", "doubtful"))
        return Part(ShardFile.model_validate(noted["file"]), table, rejected, doubtful)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:  # pydantic's is a ValueError
        raise UserError(f"{part_path} is damaged ({error}). {advice}") from error


def _parse_findings(values: Any, part_path: Path) -> tuple[Finding, ...]:
    return tuple(parse_finding(value, str(part_path)) for value in values)


def _save(path: Path, part: Part) -> None:
    findings = {"rejected": part.rejected, "doubtful": part.doubtful}
    listed = {name: [finding._asdict() for finding in members] for name, members in findings.items()}
    noted = {"file": part.file.model_dump(), **listed}
    save_table(path, {**part.table, "part": np.frombuffer(json.dumps(noted).encode(), np.uint8)})


class _Made(NamedTuple):
    """The versions of a recording, and what makes it doubtful."""

    utterances: list[UtteranceFbank]
    concerns: list[str]


def _make_utterances(recording: Recording, options: ShardOptions) -> _Made | Finding:
    now_at(recording.origin, options.timeout_seconds + GRACE_SECONDS)
    try:
        with _time_limit(options.timeout_seconds):
            return _versions_as_fbank(recording, options)
    except _Unusable as error:
        return Finding(recording.utterance, recording.origin, str(error))
    finally:
        now_at("", 0)


def _versions_as_fbank(recording: Recording, options: ShardOptions) -> _Made:
    """Raises _Unusable for a fault of the recording, and UserError for any other, such as a damaged noise file."""
    from mqmha_jax.features.fbank import extract_fbank  # here: the worker limits XLA's threads first

    spec, plan = options.spec, options.plan

    def fbank(utterance: str, waveform: Float[np.ndarray, " n"]) -> Float16[np.ndarray, "T F"]:
        seed = int(random_generator(plan.seed, f"{utterance}#dither").integers(2**31))
        frames = extract_fbank(waveform, spec, seed)
        if not np.isfinite(frames).all():
            raise UserError("its samples are so large that the filterbank overflows; full scale is 1.")
        return frames.astype(np.float16)

    with _blame_recording():
        _check_names(recording)
        waveform = recording.waveform(spec.sample_rate_hz)
        check_amplitude(recording.utterance, float(np.abs(waveform).max(initial=0)))  # of a source that is not a file
        speech = measure_speech(waveform, spec.sample_rate_hz) if recording.is_speech else None
        if speech is not None:
            _check_speech(speech, options)
    made = []
    for version in versions(recording, waveform, plan):
        with _blame_recording():
            frames = fbank(version.utterance, version.waveform)
        measures = waveform_measures(version.waveform, spec.sample_rate_hz)
        # One measurement serves all versions: it costs nearly a filterbank, and added noise does not change the speech.
        if speech is not None:
            measures["speech_seconds"] = speech.speech_s / plan.speeds[version.speed_index]
        made.append(UtteranceFbank(version.utterance, version.speaker, frames, version.attributes, measures))
    return _Made(made, [] if speech is None else speech.concerns())


class _Unusable(Exception):  # noqa: N818 - it names a recording's state
    """The recording cannot be used; the message says why."""


@contextlib.contextmanager
def _blame_recording() -> Iterator[None]:
    try:
        yield
    except _Unusable:
        raise
    except UserError as error:
        raise _Unusable(str(error)) from error
    except MemoryError as error:
        raise _Unusable("does not fit into memory. Cut it into shorter files.") from error
    except Exception as error:  # a decoder may fail in any way on one file of a million; each failure counts
        raise _Unusable(f"cannot be used ({type(error).__name__}: {error}).") from error


def _check_names(recording: Recording) -> None:
    try:
        "".join([recording.utterance, recording.speaker, *recording.attributes.values()]).encode()
    except UnicodeEncodeError:
        raise UserError("its name is not valid UTF-8. Rename the file.") from None
    if SPEED_MARK in recording.speaker:
        raise UserError(
            f"its speaker {recording.speaker!r} contains {SPEED_MARK!r}, which marks copies at other speeds."
        )


def _check_speech(speech: SpeechEvidence, options: ShardOptions) -> None:
    least, most = options.min_speech_seconds, options.max_clipped_share
    if speech.speech_s < least:
        raise UserError(f"holds {speech.shortfall(least)}; --min-speech {least:g} rejects it.")
    if speech.clipped_share > most:
        raise UserError(f"{speech.clipped_share:.1%} of its samples are clipped; --max-clipped {most:g} rejects it.")


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _Unusable inside after that time; has no effect in a thread, because signals reach only the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def too_long(*_: object) -> None:
        raise _Unusable(
            f"took longer than {seconds:g} s: it hangs or is huge. Leave it out, or allow more with --timeout."
        )

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
