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
_CUT_SET, _CUT_SPEAKERS, _LONG_S = "libri252", 40, 13.0
_PIECES = (4, 2)  # pieces of 3 to 4 s, and of 7 to 8 s: few trials, but long
_PER_SPEAKER = 200  # target trials, and nontarget trials
_UTTERANCES = 40  # of a speaker in the dev lists at most, evenly spaced: more make no trials harder, only slower

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
    dev: dict[str, list[dict[str, str]]] = {}
    for name, speakers in sorted(_by_set(rows).items()):
        several = sorted(speaker for speaker, own in speakers.items() if len(own) > 1)
        if several:
            # Targets pair different sessions, so speakers who have them come first: each one counts.
            drawn = sorted(rng.permutation(several), key=lambda speaker: len(_sessions(speakers[speaker])) < 2)
            chosen = drawn[: max(2, round(SHARE * len(several)))]
            dev[name] = [{**row, "utterance": row["path"]} for speaker in chosen for row in _thin(speakers[speaker])]
        elif name == _CUT_SET:
            long = sorted(s for s, (row,) in speakers.items() if float(row["seconds"]) >= _LONG_S)
            readers = rng.permutation(long)[:_CUT_SPEAKERS]
            for pieces in _PIECES:
                dev[f"{name}_cut{pieces}"] = [x for speaker in readers for x in _cut(speakers[speaker][0], pieces)]
    for name, own in dev.items():
        utt2spk = {row["utterance"]: row["speaker"] for row in own}
        sessions = {row["utterance"]: row["session"] or row["utterance"] for row in own}
        write_trials(directory / f"{name}.trials", make_trials(utt2spk, sessions, per_speaker=_PER_SPEAKER))
    everything = [row for own in dev.values() for row in own]
    held_out = {row["speaker"] for row in everything}
    trials = {name: directory / f"{name}.trials" for name in dev}
    split = Split(directory / "train.csv", directory / "dev.csv", trials)
    _write_csv(split.train, [row for row in rows if row["speaker"] not in held_out])
    _write_csv(split.dev, everything)
    return split


def cross_channels(trials: Mapping[str, Path], versions: Sequence[str]) -> list[Path]:
    """Writes each list once per version, with the test side of each trial in that version, the enrolment as it was.

    The targets of most sets pair one session, in which room and microphone help to recognise the speaker; here they do
    not.

    Args:
      trials: dev list of each set, of utterances without versions.
      versions: of the shards, such as ``noise``.

    Returns:
      The lists, as files beside the others: ``SET_VERSION.trials``.
    """
    crossed = []
    for name, version in itertools.product(trials, versions):
        lines = [line.split() for line in trials[name].read_text().splitlines()]
        crossed.append(trials[name].with_name(f"{name}_{version}.trials"))
        crossed[-1].write_text("".join(f"{label} {enrol} {test}#{version}\n" for label, enrol, test in lines))
    return crossed


def thin_training_list(speech: Path, output: Path) -> Path:
    """Writes the training list with at most 40 recordings per speaker, the same ones as in the dev lists."""
    rows = list(csv.DictReader((speech / "lists" / "train.csv").open()))
    speakers = [own for speakers in _by_set(rows).values() for own in speakers.values()]
    _write_csv(output, [row for own in speakers for row in _thin(own)])
    return output


def _by_set(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows of each speaker of each set."""
    sets: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        sets[row["set"]][row["speaker"]].append(row)
    return sets


def _sessions(rows: Sequence[Row]) -> set[str]:
    return {row["session"] for row in rows}


def _thin(rows: Sequence[Row]) -> list[Row]:
    count = min(len(rows), _UTTERANCES)
    return [rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def _cut(row: Row, pieces: int) -> list[dict[str, str]]:
    """Cuts a recording into pieces of equal length, which count as recordings of their own."""
    edges = np.linspace(0, float(row["seconds"]), pieces + 1)
    return [
        {
            **row,
            "session": "",
            "utterance": f"{row['path']}#{i}of{pieces}",
            "start_s": f"{start:.2f}",
            "end_s": f"{end:.2f}",
        }
        for i, (start, end) in enumerate(itertools.pairwise(edges), start=1)
    ]


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names, restval="")
        writer.writeheader()
        writer.writerows(rows)
