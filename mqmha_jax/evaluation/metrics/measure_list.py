"""Measures scores: each metric of each system on a list, with its interval over speakers."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mqmha_jax.data.lists import number_names
from mqmha_jax.data.metadata import NOTHING_KNOWN, Metadata, trial_attributes
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.bootstrap import (
    FEWEST_SPEAKERS,
    MIN_SPEAKERS,
    Metric,
    check_labels,
    speaker_bootstrap,
)
from mqmha_jax.evaluation.metrics.detection import DetectionCurve, detection_curve
from mqmha_jax.evaluation.metrics.results import ListEvaluation, Measured, SystemScores
from mqmha_jax.types import Trials

# Priors of a target trial in the field's tables: 0.01 (VoxCeleb, NIST SRE) and 0.05 (VoxSRC).
P_TARGETS = (0.01, 0.05)


class OperatingPoint(NamedTuple):
    """The application that a decision is made for.

    Attributes:
      p_target: prior probability of a target trial.
      c_miss: cost of rejecting a target.
      c_fa: cost of accepting a nontarget.
    """

    p_target: float
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __str__(self) -> str:
        costs = "" if self.c_miss == self.c_fa == 1 else f" ({self.c_miss:g}:{self.c_fa:g})"
        return f"{self.p_target:g}{costs}"


class Measuring(NamedTuple):
    """What is measured.

    Attributes:
      p_targets: priors of a target trial in addition to the field's two.
      replicates: number of resamples of the speakers for the intervals; 0: no intervals.
      seed: of the resamples.
      costs: of a miss and of a false alarm, at every prior; the names of the metrics tell others than 1.
    """

    p_targets: Sequence[float] = ()
    replicates: int = 1000
    seed: int = 0
    costs: tuple[float, float] = (1.0, 1.0)


USUAL_MEASURING = Measuring()


class Scores(NamedTuple):
    """Scores of a system on a list.

    Attributes:
      values: ``[M]``, higher for "same speaker".
      calibrated: they are natural-log likelihood ratios.
    """

    values: Float[np.ndarray, " M"]
    calibrated: bool = False


def evaluate_list(
    name: str,
    trials: Trials,
    systems: Mapping[str, Scores],
    *,
    known: Metadata = NOTHING_KNOWN,
    models: Metadata | None = None,
    measuring: Measuring = USUAL_MEASURING,
) -> ListEvaluation:
    """Measures several systems on one list, all on the same resamples of its speakers.

    Args:
      name: of the list, for tables and file names.
      trials: M trials.
      systems: scores ``[M]`` by name, in the order of the table.
      known: facts about the utterances of the list; without their speakers there are no intervals.
      models: facts about the models that the enrolment sides name; None: they name utterances.
      measuring: costs and resamples.

    Raises:
      UserError: see ``detection_curve`` (a class is missing, a score is not finite) and ``speaker_bootstrap`` (a label
        contradicts the speakers); speakers are known, but not for every utterance.
    """
    enrolled = known if models is None else models
    sides = _speakers(name, trials, enrolled, known) if known.utt2spk else None
    if sides is not None:
        check_labels(trials.target, *number_names(*sides)[1], name=name)
    metrics: dict[str, dict[str, Measured]] = {}
    for calibrated in (False, True):
        group = {system: scores.values for system, scores in systems.items() if scores.calibrated == calibrated}
        if group:
            metrics |= _measure(group, trials.target, _metrics(measuring, calibrated), sides, measuring)
    num_speakers = None if sides is None else len({*sides[0], *sides[1]})
    return ListEvaluation(
        name=name,
        trials=trials,
        enrol_speaker=sides and sides[0],
        test_speaker=sides and sides[1],
        attributes=trial_attributes(trials, enrolled, known),
        systems=tuple(
            SystemScores(
                name=system,
                scores=scores.values,
                metrics=metrics[system],
                threshold=detection_curve(scores.values, trials.target).equal_error_threshold(),
                calibrated=scores.calibrated,
            )
            for system, scores in systems.items()
        ),
        num_speakers=num_speakers,
        reliable=num_speakers is not None and num_speakers >= MIN_SPEAKERS,
    )


def _metrics(measuring: Measuring, calibrated: bool) -> dict[str, Metric]:
    """Functions of a detection curve, in the order of the table."""
    points = [
        OperatingPoint(p_target, *measuring.costs) for p_target in dict.fromkeys([*P_TARGETS, *measuring.p_targets])
    ]
    metrics: dict[str, Metric] = {"EER": DetectionCurve.equal_error_rate}
    metrics |= {f"minDCF {point}": partial(DetectionCurve.min_dcf, **point._asdict()) for point in points}
    if calibrated:
        metrics[f"actDCF {points[0]}"] = partial(DetectionCurve.act_dcf, **points[0]._asdict())
        metrics |= {"Cllr": DetectionCurve.cllr, "minCllr": DetectionCurve.min_cllr}
    return metrics


def _measure(
    group: Mapping[str, Float[np.ndarray, " M"]],
    target: Bool[np.ndarray, " M"],
    metrics: Mapping[str, Metric],
    sides: tuple[tuple[str, ...], tuple[str, ...]] | None,
    measuring: Measuring,
) -> dict[str, dict[str, Measured]]:
    """Every metric of each system, with intervals where the speakers are known, enough, and to be resampled."""
    if sides is None or not measuring.replicates or len({*sides[0], *sides[1]}) < FEWEST_SPEAKERS:
        curves = {system: detection_curve(scores, target) for system, scores in group.items()}
        return {
            system: {name: Measured(metric(curve), None, None) for name, metric in metrics.items()}
            for system, curve in curves.items()
        }
    _, (enrol, test) = number_names(*sides)
    bootstrap = speaker_bootstrap(
        np.stack(list(group.values())),
        target,
        enrol,
        test,
        metrics,
        replicates=measuring.replicates,
        seed=measuring.seed,
    )
    ends = bootstrap.interval()
    return {
        system: {
            name: Measured(float(bootstrap.estimates[i, j]), float(ends[i, j, 0]), float(ends[i, j, 1]))
            for j, name in enumerate(metrics)
        }
        for i, system in enumerate(group)
    }


def _speakers(
    name: str, trials: Trials, enrolled: Metadata, known: Metadata
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        return (
            tuple(enrolled.utt2spk[utterance] for utterance in trials.enrol),
            tuple(known.utt2spk[utterance] for utterance in trials.test),
        )
    except KeyError as error:
        raise UserError(
            f"{name}: the speaker of {error.args[0]!r} is not known, and intervals over speakers need it. Add it to "
            "the metadata, or leave the metadata out."
        ) from None
