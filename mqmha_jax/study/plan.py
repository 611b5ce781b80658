"""Resolves a study to its cells and checks every configuration and path before anything runs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mqmha_jax.config import Config
from mqmha_jax.config_io import differences, require_same_fbank, with_overrides
from mqmha_jax.data.lists import check_trials, read_trials
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.study.sizes import count_network_parameters, match_size
from mqmha_jax.study.spec import Study, TrialList


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid; each seed trains it once.

    Attributes:
      name: name of the cell and of its directory.
      config: configuration without the seed.
      parameters: number of parameters of the network.
      control_of: for a control, the cell of the same size.
    """

    name: str
    config: Config
    parameters: int
    control_of: str = ""

    def with_seed(self, seed: int) -> Config:
        """Returns the configuration of one run."""
        return with_overrides(self.config, [f"train.seed={seed}"])


@dataclass(frozen=True)
class FoundList:
    """A trial list on this machine.

    Attributes:
      name: name of the list.
      trials: file of the list.
      shards: directory of shards with its utterances.
      fingerprint: changes if the list or the shards change.
    """

    name: str
    trials: Path
    shards: Path
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """A study on this machine's data.

    Attributes:
      study: the study.
      cells: the grid in order, then the controls.
      lists: trial lists in the study's order.
      num_speakers: number of training speakers.
      notes: sentences about what looks unintended in the lists.
    """

    study: Study
    cells: tuple[Cell, ...]
    lists: tuple[FoundList, ...]
    num_speakers: int
    notes: tuple[str, ...]

    @property
    def num_runs(self) -> int:
        """Number of cells times number of seeds."""
        return len(self.cells) * len(self.study.seeds)


def make_plan(study: Study, data: Sequence[Path]) -> Plan:
    """Resolves a study on this machine's data.

    Args:
      study: the study.
      data: directories to search for its shards and lists, in this order.

    Raises:
      UserError: an override is not valid, two cells are equal, a path is missing, shards have other features, a list
        names unknown utterances, or the mean over lists decides although they share speakers.
    """
    train = _find_path(study.train, data)
    shards = open_shards(train, original_speed_only=study.base.data.original_speed_only)
    lists, notes = _find_lists(study, data)
    cells = resolve_cells(study, train)
    for seed in study.seeds:
        cells[0].with_seed(seed)
    return Plan(study, tuple(cells), lists, len(shards.speakers), notes)


def resolve_cells(study: Study, train: Path) -> list[Cell]:
    """Resolves the configuration of every cell and control; needs no data.

    Args:
      study: the study.
      train: directory of the training shards.

    Raises:
      UserError: an override is not valid, two cells are equal, or no control can have the same size.
    """
    # The dev list is left out, because evaluating it takes time and decides nothing here.
    base = with_overrides(study.base, [f"data.train={train}", "data.dev=", "data.dev_trials="])
    cells: dict[str, Cell] = {}
    for name in study.cell_names():
        config = _configure(study, base, name)
        for other in cells.values():
            if not differences(other.config, config):
                raise UserError(f"The cells {other.name!r} and {name!r} are the same configuration; leave one out.")
        try:
            cells[name] = Cell(name, config, count_network_parameters(config))
        except UserError as error:
            raise UserError(f"Cell {name!r}: {error}") from None
    for control in study.controls:
        try:
            config = match_size(_configure(study, base, control.cell), control.option, cells[control.of].parameters)
        except UserError as error:
            raise UserError(f"Control {control.name!r}: {error}") from None
        cells[control.name] = Cell(control.name, config, count_network_parameters(config), control_of=control.of)
    return list(cells.values())


def _configure(study: Study, base: Config, cell: str) -> Config:
    config = base
    for factor in study.factors:
        level = study.levels(cell)[factor.name]
        try:
            config = with_overrides(config, factor.levels[level])
        except UserError as error:
            raise UserError(f"Factor {factor.name!r}, level {level!r}: {error}") from None
    return config


def _find_lists(study: Study, data: Sequence[Path]) -> tuple[tuple[FoundList, ...], tuple[str, ...]]:
    found, notes = [], []
    speakers: dict[str, set[str]] = {}
    for part in study.lists:
        trials, directory = _find_path(part.trials, data), _find_path(part.shards, data)
        shards = open_shards(directory)
        require_same_fbank(study.base.fbank, shards.spec, f"The shards in {directory}")
        speakers[part.name], list_notes = _check_list(part, trials, shards)
        notes += list_notes
        contents = hashlib.sha256(trials.read_bytes()).hexdigest()
        found.append(FoundList(part.name, trials, directory, f"{contents} {shards.identity()['fingerprint']}"))
    if not study.decide_on:
        _refuse_shared_speakers(speakers)
    return tuple(found), tuple(notes)


def _check_list(part: TrialList, path: Path, shards: FbankShards) -> tuple[set[str], list[str]]:
    """Returns the speakers of a list, and what looks unintended in it."""
    trials = read_trials(path)
    notes = check_trials(trials, shards.utterances, name=part.name)
    named = {*trials.enrol, *trials.test}
    speaker_of = zip(shards.utterances, shards.speaker, strict=True)
    return {shards.speakers[speaker] for utterance, speaker in speaker_of if utterance in named}, notes


def _refuse_shared_speakers(speakers: Mapping[str, set[str]]) -> None:
    names = list(speakers)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if shared := speakers[one] & speakers[other]:
                raise UserError(
                    f"The lists {one} and {other} share {count_noun(len(shared), 'speaker')} (e.g. {min(shared)!r}), "
                    f"which the mean over the lists would count twice: set decide_on to one list, e.g. {one!r}."
                )


def _find_path(path: str, directories: Sequence[Path]) -> Path:
    for directory in directories:
        if (directory / path).exists():
            return directory / path
    where = ", ".join(map(str, directories)) or "no directory"
    raise UserError(f"The study needs {path!r}, which is not in {where}; give its parent with --data DIR.")
