"""Corpora by name: each function turns its arguments into a list of recordings."""

from collections.abc import Callable

from data_prep.corpora.csv_list import csv_recordings
from data_prep.corpora.folder import folder_recordings
from data_prep.corpora.synthetic_list import synthetic_recordings
from data_prep.manifest import Recording

CORPORA: dict[str, Callable[..., list[Recording]]] = {
    "folder": folder_recordings,
    "csv": csv_recordings,
    "synthetic": synthetic_recordings,
}
