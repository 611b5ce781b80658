"""Splits the training speakers of a speech folder into speakers to train on and speakers to choose settings on.

``lists/train.csv`` holds sets of different kinds of speech. In a set whose speakers have several recordings, a share of
the speakers is held out. In a set with one long recording per speaker, some speakers are held out and their recordings
are cut into pieces. Each set becomes a dev list of its own, so that no EER mixes sets.
"""

import csv
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.trials import make_trials, write_trials

SHARE = 0.4  # of the speakers with several recordings
_CUT_SET, _CUT_SPEAKERS, _PIECES, _LONG_S = "libri252", 40, 4, 13.0
_PER_SPEAKER = 200  # target trials, and nontarget trials

Row = Mapping[str, str]


class Split(NamedTuple):
    """The files of a split.

    Attributes:
      train: CSV of the speakers to train on.
      dev: CSV of the others.
      trials: dev list of each set.
    """

    train: Path
    dev: Path
    trials: dict[str, Path]


def split_training_speakers(speech: Path, directory: Path) -> Split:
    """Writes the lists of a split; the same speech gives the same split.

    Args:
      speech: folder with ``lists/train.csv``: path, speaker, set, seconds, session.
      directory: receives the lists.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader((speech / "lists" / "train.csv").open()))
    rng = np.random.default_rng(0)
    dev: list[dict[str, str]] = []
    trials: dict[str, Path] = {}
    for name, speakers in sorted(_by_set(rows).items()):
        several = sorted(speaker for speaker, own in speakers.items() if len(own) > 1)
        if several:
            chosen = rng.permutation(several)[: max(2, round(SHARE * len(several)))]
            own = [{**row, "utterance": row["path"]} for speaker in chosen for row in speakers[speaker]]
        elif name == _CUT_SET:
            long = sorted(s for s, (row,) in speakers.items() if float(row["seconds"]) >= _LONG_S)
            own = [piece for speaker in rng.permutation(long)[:_CUT_SPEAKERS] for piece in _pieces(*speakers[speaker])]
        else:
            continue
        sessions = {row["utterance"]: row["session"] or row["utterance"] for row in own}
        trials[name] = directory / f"{name}.trials"
        utt2spk = {row["utterance"]: row["speaker"] for row in own}
        write_trials(trials[name], make_trials(utt2spk, sessions, per_speaker=_PER_SPEAKER))
        dev += own
    held_out = {row["speaker"] for row in dev}
    split = Split(directory / "train.csv", directory / "dev.csv", trials)
    _write_csv(split.train, [row for row in rows if row["speaker"] not in held_out])
    _write_csv(split.dev, dev)
    return split


def _by_set(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows of each speaker of each set."""
    sets: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        sets[row["set"]][row["speaker"]].append(row)
    return sets


def _pieces(row: Row) -> list[dict[str, str]]:
    """Cuts a recording into pieces of equal length, which count as recordings of their own."""
    edges = np.linspace(0, float(row["seconds"]), _PIECES + 1)
    return [
        {**row, "session": "", "utterance": f"{row['path']}#{i}", "start_s": f"{start:.2f}", "end_s": f"{end:.2f}"}
        for i, (start, end) in enumerate(itertools.pairwise(edges))
    ]


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names, restval="")
        writer.writeheader()
        writer.writerows(rows)
