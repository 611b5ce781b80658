"""Corpora by name: each function turns its arguments into a list of recordings, and becomes a command.

The command's arguments, options and help come from the function's signature, annotations and docstring
(``signature_options``); the first line of the docstring is the short help. All names are checked here.
"""

import functools
from collections.abc import Callable

from data_prep.corpora.cnceleb import cnceleb_recordings
from data_prep.corpora.common_voice import common_voice_recordings
from data_prep.corpora.csv_list import csv_recordings
from data_prep.corpora.folder import folder_recordings
from data_prep.corpora.jsonl_list import jsonl_recordings
from data_prep.corpora.kaldi import kaldi_recordings
from data_prep.corpora.librispeech import librispeech_recordings
from data_prep.corpora.musan import noise_recordings, room_recordings
from data_prep.corpora.synthetic_list import synthetic_recordings
from data_prep.corpora.tfds_corpus import tfds_recordings
from data_prep.corpora.voxceleb import voxceleb1_recordings, voxceleb2_recordings
from data_prep.manifest import Recording
from mqmha_jax.data.ids import check_id, check_spellings


def check_names(recordings: list[Recording]) -> None:
    """Refuses names that a list or a terminal cannot carry, and names that look the same but differ.

    Raises:
      UserError: an id or a speaker is white space, one of them or an attribute has a control character, or two ids or
        two speakers look the same.
    """
    for recording in recordings:
        check_id(recording.utterance, "The utterance")
        check_id(recording.speaker, f"The speaker of {recording.utterance!r},")
        for name, value in recording.attributes.items():
            if value.strip(" "):
                check_id(value, f"{name} of {recording.utterance!r},")
    check_spellings(dict.fromkeys(recording.utterance for recording in recordings), "utterances")  # each once
    check_spellings(dict.fromkeys(recording.speaker for recording in recordings), "speakers")


def _add_name_check(list_recordings: Callable[..., list[Recording]]) -> Callable[..., list[Recording]]:
    @functools.wraps(list_recordings)
    def checked(*args: object, **kwargs: object) -> list[Recording]:
        recordings = list_recordings(*args, **kwargs)
        check_names(recordings)
        return recordings

    return checked


_READERS: dict[str, Callable[..., list[Recording]]] = {
    "voxceleb1": voxceleb1_recordings,
    "voxceleb2": voxceleb2_recordings,
    "cnceleb": cnceleb_recordings,
    "librispeech": librispeech_recordings,
    "common-voice": common_voice_recordings,
    "kaldi": kaldi_recordings,
    "csv": csv_recordings,
    "jsonl": jsonl_recordings,
    "folder": folder_recordings,
    "tfds": tfds_recordings,
    "synthetic": synthetic_recordings,
    "noises": noise_recordings,
    "rooms": room_recordings,
}

CORPORA = {name: _add_name_check(list_recordings) for name, list_recordings in _READERS.items()}
