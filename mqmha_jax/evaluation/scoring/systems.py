"""The ways in which embeddings are scored: cosine, normalised by a cohort, behind a back-end, and all calibrated."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from mqmha_jax.data.metadata import SECONDS, Metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.sources import Background
from mqmha_jax.evaluation.metrics.measure_list import Scores
from mqmha_jax.evaluation.scoring.backend import Backend
from mqmha_jax.evaluation.scoring.calibration import Calibration, fit_calibration
from mqmha_jax.evaluation.scoring.cosine import as_norm, cosine_scores
from mqmha_jax.evaluation.scoring.enrolment import enrol_models, enrolment_scores
from mqmha_jax.evaluation.scoring.normalization import cohort_statistics
from mqmha_jax.evaluation.scoring.quality import Features, score_feature, trial_features, utterance_measures
from mqmha_jax.types import Embeddings, Trials

COSINE, AS_NORM = "cosine", "as-norm"
Models = Mapping[str, Sequence[str]]


class Scoring(NamedTuple):
    """How embeddings are scored.

    Attributes:
      background: mean and cohort.
      top_n: how many of the nearest cohort members normalise a score.
      models: utterances of each model that the enrolment sides name; None: they name utterances.
      average: of a model's utterances, the mean of the embeddings or of the scores.
      quality: calibration looks at durations, norms and cohort scores as well, not at the score alone.
      backend: further systems, of whitened or LDA-reduced embeddings and by PLDA.
    """

    background: Background
    top_n: int = 300
    models: Models | None = None
    average: Literal["embeddings", "scores"] = "embeddings"
    quality: bool = False
    backend: Backend | None = None

    def scores(self, embeddings: Embeddings, trials: Trials) -> dict[str, Float[np.ndarray, " M"]]:
        """Scores ``[M]`` by name: cosine, with a cohort as-norm, and what the back-end adds."""
        mean, cohort, _ = self.background
        systems: dict[str, Float[np.ndarray, " M"]]
        if self.models is None:
            named = models = None
            systems = {COSINE: cosine_scores(embeddings, trials, mean=mean)}
        else:
            named = {model: self.models[model] for model in dict.fromkeys(trials.enrol)}
            models = enrol_models(embeddings, named, mean=mean)
            systems = {COSINE: enrolment_scores(embeddings, trials, named, mean=mean, average=self.average)}
        if cohort is not None:
            systems[AS_NORM] = as_norm(embeddings, trials, cohort, top_n=self.top_n, mean=mean, models=models)
        if self.backend is not None:
            systems |= self.backend.scores(embeddings, trials, named, self.average)
        return systems

    def features(
        self, system: str, scores: Float[np.ndarray, " M"], embeddings: Embeddings, trials: Trials, known: Metadata
    ) -> Features:
        """What the calibration of a system looks at."""
        if not self.quality:
            return score_feature(scores)
        mean, cohort, _ = self.background
        duration_s, cohort_mean = _durations(known, embeddings.ids), None
        if system == AS_NORM and cohort is not None:
            cohort_mean = np.asarray(cohort_statistics(embeddings, cohort, top_n=self.top_n, mean=mean).mean)
        measures = utterance_measures(embeddings, duration_s=duration_s, cohort_mean=cohort_mean, mean=mean)
        return trial_features(scores, trials, embeddings.ids, measures)

    def fit(self, embeddings: Embeddings, trials: Trials, known: Metadata) -> dict[str, Calibration]:
        """The calibration of each system on a list; of quality measures, those that differ within the list.

        Raises:
          UserError: see ``fit_calibration``.
        """
        calibrations = {}
        for system, scores in self.scores(embeddings, trials).items():
            features = self.features(system, scores, embeddings, trials, known)
            differing = [name for name, values in zip(features.names, features.values.T, strict=True) if np.ptp(values)]
            calibrations[system] = fit_calibration(chosen(features, ("score", *differing[1:])), trials.target)
        return calibrations

    def systems(
        self, embeddings: Embeddings, trials: Trials, known: Metadata, calibrations: Mapping[str, Calibration]
    ) -> dict[str, Scores]:
        """All systems on a list: the scores, and after them their log-likelihood ratios where calibrated."""
        scores = self.scores(embeddings, trials)
        systems = {name: Scores(values) for name, values in scores.items()}
        for name, calibration in calibrations.items():
            features = self.features(name, scores[name], embeddings, trials, known)
            ratios = calibration.llr(chosen(features, calibration.features))
            systems[f"{name} calibrated"] = Scores(ratios, calibrated=True)
        return systems


def chosen(features: Features, names: Sequence[str]) -> Features:
    """Some of the features, in the order of the names.

    Raises:
      UserError: one is not there.
    """
    missing = [name for name in names if name not in features.names]
    if missing:
        raise UserError(
            f"The calibration looks at {missing[0]}, which is not known here; valid: "
            f"{', '.join(features.names)}. Evaluate with --calibrate again."
        )
    columns = [features.names.index(name) for name in names]
    return Features(tuple(names), features.values[:, columns])


def _durations(known: Metadata, utterances: Sequence[str]) -> Float[np.ndarray, " N"] | None:
    """Seconds of each utterance, ``[N]``; None where they are not known of all."""
    seconds = known.columns.get(SECONDS, {})
    if not all(utterance in seconds for utterance in utterances):
        return None
    return np.array([float(seconds[utterance]) for utterance in utterances])
