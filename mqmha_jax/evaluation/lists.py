"""The lists of an evaluation, and parts of them."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from mqmha_jax.data.metadata import Metadata
from mqmha_jax.evaluation.scoring.method import Models
from mqmha_jax.types import Trials


class Lists(NamedTuple):
    """The lists of an evaluation.

    Attributes:
      trials: lists to measure, by name.
      calibration: the list to calibrate on, by the name that messages use; empty: no calibration.
      models: utterances of each model that the enrolment sides name; None: the sides name utterances.
      known: facts about the utterances.
    """

    trials: Mapping[str, Trials]
    calibration: Mapping[str, Trials]
    models: Models | None
    known: Metadata


def leave_out(lists: Lists, utterances: Collection[str]) -> Lists:
    """The lists without the trials of some utterances, and without the models that need them."""
    if not utterances:
        return lists
    lost = {*utterances}
    models = lists.models and {name: own for name, own in lists.models.items() if not lost.intersection(own)}
    enrolled = lost if lists.models is None else {*lists.models} - {*(models or {})}

    def keep(trials: Trials) -> Trials:
        rows = [
            row
            for row, (enrol, test) in enumerate(zip(trials.enrol, trials.test, strict=True))
            if enrol not in enrolled and test not in lost
        ]
        enrol, test = (tuple(side[row] for row in rows) for side in trials[:2])
        return Trials(enrol, test, trials.target[rows])

    return lists._replace(
        trials={name: keep(part) for name, part in lists.trials.items()},
        calibration={name: keep(part) for name, part in lists.calibration.items()},
        models=models,
    )


def utterances_of(trials: Trials, models: Models | None) -> set[str]:
    """All utterances that the scores of a list need."""
    if models is None:
        return {*trials.enrol, *trials.test}
    return {*trials.test}.union(*(models[model] for model in {*trials.enrol} if model in models))
