"""Synthetic voices as recordings; the worker that reads one makes it."""

import functools
import math

import numpy as np
import soxr
from jaxtyping import Float32

from data_prep.manifest import Recording
from mqmha_jax.errors import UserError


def synthetic_recordings(
    *,
    num_speakers: int = 100,
    sessions_per_speaker: int = 4,
    utterances_per_session: int = 5,
    seconds: tuple[float, float] = (2.0, 5.0),
    voice_seed: int = 0,
    first_speaker: int = 0,
) -> list[Recording]:
    """Synthetic voices, for demos and tests.

    The voices are not real. The attribute ``session`` names the recording condition.

    Args:
      num_speakers: number of speakers.
      sessions_per_speaker: recording conditions per speaker.
      utterances_per_session: recordings in each condition.
      seconds: shortest and longest duration; uniform in between.
      voice_seed: seed of the voices; another seed gives another corpus.
      first_speaker: index of the first speaker; disjoint ranges give disjoint speakers of one population.

    Returns:
      Recordings, speaker by speaker, with the names that ``synthesise`` gives.

    Raises:
      UserError: a number is too small, or the durations are not in order.
    """
    from data_prep.corpora.synthetic import MINIMUM_SECONDS  # here: brings SciPy, which --help does without

    for name, number, least in (
        ("num-speakers", num_speakers, 1),
        ("sessions-per-speaker", sessions_per_speaker, 1),
        ("utterances-per-session", utterances_per_session, 1),
        ("voice-seed", voice_seed, 0),
        ("first-speaker", first_speaker, 0),
    ):
        if number < least:
            raise UserError(f"--{name} is {number}; it must be at least {least}.")
    if not MINIMUM_SECONDS <= seconds[0] <= seconds[1] < math.inf:
        raise UserError(
            f"--seconds {seconds[0]:g} {seconds[1]:g}: give the shortest and the longest duration, in this order, each "
            f"at least {MINIMUM_SECONDS} s."
        )
    recordings = []
    for speaker in range(first_speaker, first_speaker + num_speakers):
        for session in range(sessions_per_speaker):
            for utterance in range(utterances_per_session):
                name = f"synthetic{speaker:05d}-{session:02d}"
                recordings.append(
                    Recording(
                        utterance=f"{name}-{utterance:03d}",
                        speaker=f"synthetic{speaker:05d}",
                        source=functools.partial(_waveform, (speaker, session, utterance), voice_seed, seconds),
                        attributes={"session": name},
                    )
                )
    return recordings


def _waveform(
    index: tuple[int, int, int], seed: int, seconds: tuple[float, float], sample_rate_hz: int
) -> Float32[np.ndarray, " n"]:
    from data_prep.corpora.synthetic import synthesise

    made = synthesise(*index, seed=seed, seconds=seconds)
    if sample_rate_hz == made.sample_rate_hz:
        return made.waveform
    return soxr.resample(made.waveform, made.sample_rate_hz, sample_rate_hz)
