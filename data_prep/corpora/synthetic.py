"""A corpus of synthetic voices: no download, no licence, the same samples from the same seed.

These are machine-made sounds with the statistics of speech that matter here, for the demo and for tests. An error rate
on them shows that the system works; it says nothing about people.

Every utterance depends on (seed, speaker, session, utterance) only, so any process can make it, in any order.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from data_prep.corpora.voice_plan import plan_utterance
from data_prep.corpora.voice_session import draw_session, in_mood, record
from data_prep.corpora.voice_source import SAMPLE_RATE_HZ, render
from data_prep.corpora.voice_traits import draw_voice

MINIMUM_SECONDS = 0.5


class SyntheticUtterance(NamedTuple):
    """One recording."""

    speaker: str
    session: str
    utterance: str
    """Unique in the corpus; begins with speaker and session."""
    waveform: Float32[np.ndarray, " n"]
    """Samples in [-1, 1]."""
    sample_rate_hz: int


def synthetic_voices(
    *,
    num_speakers: int,
    sessions_per_speaker: int,
    utterances_per_session: int,
    seconds: tuple[float, float],
    seed: int,
    first_speaker: int = 0,
) -> Iterator[SyntheticUtterance]:
    """Yields all utterances of a corpus, speaker by speaker.

    Args:
      num_speakers: number of speakers.
      sessions_per_speaker: recording conditions per speaker.
      utterances_per_session: recordings in each condition.
      seconds: shortest and longest duration; uniform between.
      seed: another seed gives another corpus.
      first_speaker: index of the first speaker: disjoint ranges give disjoint speakers of one population.

    Yields:
      What ``synthesise`` returns for every index.
    """
    for speaker in range(first_speaker, first_speaker + num_speakers):
        for session in range(sessions_per_speaker):
            for utterance in range(utterances_per_session):
                yield synthesise(speaker, session, utterance, seed=seed, seconds=seconds)


def synthesise(
    speaker: int, session: int, utterance: int, *, seed: int, seconds: tuple[float, float]
) -> SyntheticUtterance:
    """Makes one utterance.

    Args:
      speaker: index of the speaker, at least 0.
      session: index of the session of this speaker, at least 0.
      utterance: index of the utterance within the session, at least 0.
      seed: of the corpus.
      seconds: shortest and longest duration.

    Returns:
      The utterance with its names and samples, at 16 kHz.

    Raises:
      ValueError: the durations are not in order or below half a second.
    """
    shortest, longest = seconds
    if not MINIMUM_SECONDS <= shortest <= longest:
        raise ValueError(f"seconds={seconds} must be two durations in rising order, at least {MINIMUM_SECONDS} s.")
    voice = draw_voice(_generator(seed, speaker))
    conditions = draw_session(_generator(seed, speaker, session))
    rng = _generator(seed, speaker, session, utterance)
    tonight = in_mood(voice, conditions)
    dry = render(tonight, plan_utterance(tonight, rng.uniform(shortest, longest), rng), rng)
    speaker_name = f"synthetic{speaker:05d}"
    session_name = f"{speaker_name}-{session:02d}"
    return SyntheticUtterance(
        speaker_name, session_name, f"{session_name}-{utterance:03d}", record(dry, conditions, rng), SAMPLE_RATE_HZ
    )


def _generator(seed: int, *index: int) -> np.random.Generator:
    """Makes an independent stream per index with a spawn key: plain lists of seeds collide when they end in zeros."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=index))
