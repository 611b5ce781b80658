"""Compares the probabilities that calibrated scores promise with the true ones."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.special import expit

_NUM_BINS = 10


class Reliability(NamedTuple):
    """Trials in bins of the probability that their scores promise; empty bins are left out.

    Attributes:
      predicted: ``[b]`` mean promised probability of "same speaker" in each bin.
      observed: ``[b]`` share of targets in each bin.
      num_trials: ``[b]`` number of trials in each bin.
    """

    predicted: Float64[np.ndarray, " b"]
    observed: Float64[np.ndarray, " b"]
    num_trials: Int64[np.ndarray, " b"]


def measure_reliability(llr: Float[np.ndarray, " M"], target: Bool[np.ndarray, " M"]) -> Reliability:
    """Compares promised and true probabilities in ten bins of equal width.

    Both have a prior of one half: all targets together weigh as much as all nontargets, whatever their numbers.

    Args:
      llr: ``[M]`` natural-log likelihood ratios.
      target: ``[M]``, both classes present.
    """
    promised = expit(llr.astype(np.float64))
    weight = np.where(target, 0.5 / np.count_nonzero(target), 0.5 / np.count_nonzero(~target))
    place = np.minimum((promised * _NUM_BINS).astype(int), _NUM_BINS - 1)
    num_trials = np.bincount(place, minlength=_NUM_BINS)
    held = num_trials > 0
    in_bin = np.bincount(place, weights=weight, minlength=_NUM_BINS)[held]
    return Reliability(
        predicted=np.bincount(place, weights=weight * promised, minlength=_NUM_BINS)[held] / in_bin,
        observed=np.bincount(place, weights=weight * target, minlength=_NUM_BINS)[held] / in_bin,
        num_trials=num_trials[held],
    )
