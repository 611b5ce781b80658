"""Prepares recordings for enrolment: names them, and requires enough speech."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mqmha_jax.errors import UserError
from mqmha_jax.inference import Audio, Observation, SpeakerEncoder, list_recordings

Recordings = Audio | Sequence[Audio] | Mapping[str, Audio]


def name_recordings(recordings: Recordings) -> dict[str, Audio]:
    """Recordings by name: that of the mapping, the path, or the beginning of a hash of the samples."""
    if isinstance(recordings, Mapping):
        return dict(recordings)
    return {_name_of(audio): audio for audio in list_recordings(recordings)}


def observe_speech(
    encoder: SpeakerEncoder,
    named: Mapping[str, Audio],
    channel: int | None,
    min_speech_s: float,
    on_error: Callable[[UserError], object] | None,
    on_warning: Callable[[str], object],
) -> dict[str, Observation]:
    """Embeds the recordings that hold enough speech.

    Args:
      encoder: the network.
      named: recordings by name.
      channel, min_speech_s, on_error, on_warning: as for ``SpeakerStore.enrol``.

    Returns:
      The observations of the usable recordings, by name.

    Raises:
      UserError: a recording cannot be used or holds too little speech, and ``on_error`` is None.
    """
    observed: dict[str, Observation] = {}
    for name, audio in named.items():
        try:
            one = encoder.observe(audio, name=name, channel=channel)
            if shortfall := one.evidence.shortfall(min_speech_s):
                raise UserError(
                    f"{name}: {shortfall}; a recording to enrol needs {min_speech_s:g} s at least. Take a longer one."
                )
        except UserError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        for warning in one.warnings:
            on_warning(warning)
        observed[name] = one
    return observed


def _name_of(audio: Audio) -> str:
    if isinstance(audio, np.ndarray):
        return f"waveform {hashlib.sha256(np.ascontiguousarray(audio).tobytes()).hexdigest()[:12]}"
    return str(audio)
