"""Corpora by name: each function turns its arguments into a list of recordings."""

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

CORPORA: dict[str, Callable[..., list[Recording]]] = {
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
