"""Error rates of the same trials under every condition, and their differences from the clean ones."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from mqmha_jax.evaluation.metrics.bootstrap import (
    FEWEST_SPEAKERS,
    MIN_SPEAKERS,
    bootstrap_interval,
    check_labels,
    speaker_bootstrap,
    trial_speakers,
)
from mqmha_jax.evaluation.metrics.detection import DetectionCurve, detection_curve
from mqmha_jax.evaluation.metrics.results import Measured
from mqmha_jax.stress.results import ListUnderStress, Suffering
from mqmha_jax.types import Trials


class MeasuredList(NamedTuple):
    """A list under L conditions, with what a mean over lists needs.

    Attributes:
      result: rates and intervals.
      resampled: ``[R, L]`` equal error rates on resamples of the speakers; R is 0 without intervals.
    """

    result: ListUnderStress
    resampled: Float64[np.ndarray, "R L"]


def measure_list(
    name: str,
    trials: Trials,
    scores: Mapping[str, Float[np.ndarray, " M"]],
    utt2spk: Mapping[str, str],
    *,
    replicates: int,
    seed: int,
) -> MeasuredList:
    """Measures a list under every condition, all on the same resamples of its speakers.

    Args:
      name: of the list.
      trials: M trials.
      scores: ``[M]`` of each condition, the clean one first.
      utt2spk: speakers; without all of them there are no intervals.
      replicates: resamples of the speakers, R; 0: no intervals.
      seed: of the resamples.

    Raises:
      UserError: a label contradicts the speakers, or a kind of trial is missing.
    """
    known = all(utterance in utt2spk for side in trials[:2] for utterance in side)
    speakers = trial_speakers(trials, utt2spk) if known else None
    if speakers:
        check_labels(trials.target, *speakers, name=name)
    num_speakers = len(np.unique(np.concatenate(speakers))) if speakers else None
    estimates = np.array([detection_curve(own, trials.target).equal_error_rate() for own in scores.values()])
    resampled = np.zeros((0, len(scores)))
    if speakers and replicates and num_speakers is not None and num_speakers >= FEWEST_SPEAKERS:
        stacked = np.stack(list(scores.values()))
        eer = {"EER": DetectionCurve.equal_error_rate}
        bootstrap = speaker_bootstrap(stacked, trials.target, *speakers, eer, replicates=replicates, seed=seed)
        resampled = bootstrap.replicates[:, :, 0]
    first = next(iter(scores.values()))
    threshold = detection_curve(first, trials.target).equal_error_threshold()
    errors = np.array([_errors_at(threshold, own, trials.target) for own in scores.values()])
    result = ListUnderStress(
        name=name,
        num_targets=int(np.count_nonzero(trials.target)),
        num_nontargets=int(np.count_nonzero(~trials.target)),
        num_speakers=num_speakers,
        reliable=num_speakers is not None and num_speakers >= MIN_SPEAKERS,
        conditions=_collect(tuple(scores), estimates, resampled, num_speakers or 0, errors),
    )
    return MeasuredList(result, resampled)


def average_lists(measured: Sequence[MeasuredList], *, seed: int) -> ListUnderStress:
    """The mean over lists, which are resampled independently of each other.

    Args:
      measured: two or more lists under the same conditions.
      seed: of the pairing of their resamples.
    """
    results = [one.result for one in measured]
    names = tuple(results[0].conditions)
    estimates = np.mean([[row.eer.value for row in one.conditions.values()] for one in results], axis=0)
    errors = np.mean([[(row.miss, row.false_alarm) for row in one.conditions.values()] for one in results], axis=0)
    resampled = np.zeros((0, len(names)))
    if all(len(one.resampled) for one in measured):
        # Lists with equally many speakers drew the same numbers; a shuffle of each makes the lists independent.
        rng = np.random.default_rng([seed, 1])
        resampled = np.mean([rng.permutation(one.resampled) for one in measured], axis=0)
    fewest = min((one.num_speakers or 0 for one in results), default=0)  # the widest correction for few speakers
    return ListUnderStress(
        name=f"mean over {len(results)} lists",
        num_targets=sum(one.num_targets for one in results),
        num_nontargets=sum(one.num_nontargets for one in results),
        num_speakers=None,
        reliable=all(one.reliable for one in results),
        conditions=_collect(names, estimates, resampled, fewest, errors),
    )


def _collect(
    names: Sequence[str],
    estimates: Float64[np.ndarray, " L"],
    resampled: Float64[np.ndarray, "R L"],
    num_speakers: int,
    errors: Float64[np.ndarray, "L 2"],
) -> dict[str, Suffering]:
    rates = _measure(estimates, resampled, num_speakers)
    differences = _measure(estimates - estimates[:1], resampled - resampled[:, :1], num_speakers)
    return {
        name: Suffering(rate, difference, float(miss), float(false_alarm))
        for name, rate, difference, (miss, false_alarm) in zip(names, rates, differences, errors, strict=True)
    }


def _measure(
    estimates: Float64[np.ndarray, " L"], resampled: Float64[np.ndarray, "R L"], num_speakers: int
) -> list[Measured]:
    if not len(resampled):
        return [Measured(float(value), None, None) for value in estimates]
    ends = bootstrap_interval(estimates, resampled, num_speakers)
    return [Measured(float(v), float(low), float(high)) for v, (low, high) in zip(estimates, ends, strict=True)]


def _errors_at(
    threshold: float, scores: Float[np.ndarray, " M"], target: Bool[np.ndarray, " M"]
) -> tuple[float, float]:
    """Shares of the targets that a threshold misses and of the nontargets that it accepts."""
    accepted = scores >= threshold
    return float(np.mean(~accepted[target])), float(np.mean(accepted[~target]))
