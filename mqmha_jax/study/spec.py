"""Defines a study: factors and their levels, seeds, lists, a budget. Refuses parts that contradict each other."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mqmha_jax.config import Config
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.python_file import run_python_file
from mqmha_jax.ready_configs import find_file

_LEVEL_NAME = re.compile(r"[A-Za-z0-9._=-]+")
BETWEEN_LEVELS = "+"


@dataclass(frozen=True)
class Factor:
    """One thing that the study varies.

    Attributes:
      name: name for tables and files.
      levels: name of each level -> its overrides ``section.option=value``.
    """

    name: str
    levels: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        if not self.levels:
            raise UserError(f"Factor {self.name!r} has no level; give at least one, e.g. {{'off': ['loss.top_k=0']}}.")
        for name in (self.name, *self.levels):
            if not _LEVEL_NAME.fullmatch(name):
                raise UserError(
                    f"Factor {self.name!r}: the name {name!r} becomes part of a directory's name; valid: letters, "
                    "digits, '.', '_', '=' and '-'."
                )
        for level, overrides in self.levels.items():
            if isinstance(overrides, str):
                raise UserError(f"Factor {self.name!r}, level {level!r}: give a list of overrides, [{overrides!r}].")


@dataclass(frozen=True)
class Control:
    """An additional cell with as many parameters as another one, to tell a better cell from one that is just larger.

    Attributes:
      of: the cell whose number of network parameters the control matches.
      cell: the cell that the control is made from, usually the reference; it need not be one of the study's ``cells``.
      option: an integer option that grows the network, e.g. ``"model.encoder.final_channels"``.
    """

    of: str
    cell: str
    option: str

    @property
    def name(self) -> str:
        """Name of the new cell."""
        return f"{self.cell}-as-large-as-{self.of}"


@dataclass(frozen=True)
class TrialList:
    """Trials to evaluate on; the command searches its data directories for both paths.

    Attributes:
      trials: file of the list.
      shards: directory of shards with its utterances.
    """

    trials: str
    shards: str

    @property
    def name(self) -> str:
        """Name of the list in evaluations: the file's name without its ending."""
        return PurePath(self.trials).stem


@dataclass(frozen=True)
class Budget:
    """The maximum cost of the study, checked before anything is trained.

    Attributes:
      runs: maximum number of runs, seeds and controls included.
      minutes_per_run: maximum time of a run, predicted from the measured time of a step, without compilation and
        evaluation.
    """

    runs: int
    minutes_per_run: float


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison at one scale.

    A cell is one level of each factor; its name joins the names of the levels with ``+``.

    Attributes:
      question: the question that the study answers, a sentence.
      base: the configuration that all cells start from.
      factors: what the study varies.
      reference: name of the cell that all others are compared with.
      seeds: seeds; each trains every cell once.
      train: directory of training shards; the command searches its data directories for it.
      lists: trial lists to evaluate on.
      budget: maximum cost, checked before the first run.
      cells: names of the cells to run; empty: all combinations.
      controls: cells of the same size as others.
      decide_on: name of the list that decides; empty: the mean over all lists, which must not share speakers.
    """

    question: str
    base: Config
    factors: tuple[Factor, ...]
    reference: str
    seeds: tuple[int, ...]
    train: str
    lists: tuple[TrialList, ...]
    budget: Budget
    cells: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    decide_on: str = ""

    def __post_init__(self) -> None:
        for what, given in (("factor", self.factors), ("seed", self.seeds), ("trial list", self.lists)):
            if not given:
                raise UserError(f"The study has no {what}; give at least one.")
            names = [getattr(item, "name", item) for item in given]
            if len(set(names)) < len(names):
                raise UserError(f"The study names a {what} twice: {', '.join(map(str, names))}. Leave one out.")
        possible = [BETWEEN_LEVELS.join(levels) for levels in self._combinations()]
        for name in self.cells:
            if name not in possible:
                raise unknown_name("cell", name, possible)
        chosen = self.cell_names()
        if self.reference not in chosen:
            raise unknown_name("reference cell", self.reference, chosen)
        for control in self.controls:
            for name, valid in ((control.of, chosen), (control.cell, possible)):
                if name not in valid:
                    raise unknown_name("cell of a control", name, valid)
        if self.decide_on and self.decide_on not in (names := [part.name for part in self.lists]):
            raise unknown_name("list to decide on", self.decide_on, names)
        for control, following in itertools.combinations(self.controls, 2):
            if control.name == following.name:
                raise UserError(
                    f"The study has two controls {control.name!r}, with the options {control.option} and "
                    f"{following.option}, and one would replace the other. Leave one out."
                )
        self._check_runs(len(chosen))

    def cell_names(self) -> list[str]:
        """Returns the names of all cells except the controls, in the order of the factors."""
        names = (BETWEEN_LEVELS.join(levels) for levels in self._combinations())
        return [name for name in names if not self.cells or name in self.cells]

    def levels(self, cell: str) -> dict[str, str]:
        """Returns the level of each factor in a cell that is not a control."""
        return dict(zip((factor.name for factor in self.factors), cell.split(BETWEEN_LEVELS), strict=True))

    def _combinations(self) -> list[tuple[str, ...]]:
        combinations: list[tuple[str, ...]] = [()]
        for factor in self.factors:
            combinations = [(*levels, level) for levels in combinations for level in factor.levels]
        return combinations

    def _check_runs(self, num_cells: int) -> None:
        runs = (num_cells + len(self.controls)) * len(self.seeds)
        if runs > self.budget.runs:
            raise UserError(
                f"The study needs {runs} runs ({num_cells} cells and {len(self.controls)} controls, {len(self.seeds)} "
                f"seeds each), and its budget allows {self.budget.runs}: name fewer cells or seeds, or raise "
                "budget.runs."
            )


def load_study(path: Path, scale: str | None = None) -> Study:
    """Loads a study from a file.

    Args:
      path: a Python file that defines ``STUDY = Study(...)`` or ``STUDY = {"small": Study(...), "full": ...}``, or the
        name of a study that comes with the project, such as ``pooling``.
      scale: name of the scale, if the file has several.

    Raises:
      UserError: the file is missing or defines no study, the scale is missing or unknown, or the study is not valid.
    """
    found = _run(find_file(path, "study"))
    if isinstance(found, Study):
        if scale is not None:
            raise UserError(f"{path} has one scale only; leave out --scale {scale}.")
        return found
    if scale is None:
        raise UserError(f"{path} has several scales; choose one with --scale: {', '.join(found)}.")
    if scale not in found:
        raise unknown_name(f"scale of {path}", scale, found)
    return found[scale]


def _run(path: Path) -> Study | Mapping[str, Study]:
    found = getattr(run_python_file(path, "study"), "STUDY", None)
    if isinstance(found, Study):
        return found
    if isinstance(found, Mapping) and found and all(isinstance(one, Study) for one in found.values()):
        return found
    raise UserError(f"{path} must define STUDY = Study(...), or a dict of them by scale.")
