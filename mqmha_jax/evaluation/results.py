"""The result of an evaluation: what the report shows and the files keep."""

from collections.abc import Mapping
from typing import NamedTuple

from mqmha_jax.evaluation.metrics.results import ListEvaluation
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.types import Embeddings


class Evaluation(NamedTuple):
    """All lists of one evaluation, and how they were scored.

    Attributes:
      lists: in the order given.
      settings: what was evaluated and how, in words.
      notes: reasons to doubt the numbers, a sentence each, e.g. speakers that the network was trained on.
      calibrations: the maps from scores to log-likelihood ratios, by system.
      embeddings: of all utterances of the lists; None where only scores were given.
      utt2spk: speaker of each utterance and model; empty where unknown.
    """

    lists: tuple[ListEvaluation, ...]
    settings: Mapping[str, str]
    notes: tuple[str, ...]
    calibrations: Mapping[str, Calibration]
    embeddings: Embeddings | None
    utt2spk: Mapping[str, str]
