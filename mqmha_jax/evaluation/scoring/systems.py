"""The systems that score embeddings: cosine, normalised by a cohort, behind a back-end, and each of them calibrated."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
from mqmha_jax.evaluation.scoring.method import Method, Models
from mqmha_jax.evaluation.scoring.normalization import cohort_statistics
from mqmha_jax.evaluation.scoring.quality import Features, score_feature, trial_features, utterance_measures
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.types import Embeddings, Trials

COSINE, AS_NORM = "cosine", "as-norm"


class Systems(NamedTuple):
    """A method of scoring together with the data that it names.

    Attributes:
      method: what the user asked for.
      background: mean and cohort.
      models: utterances of each model that the enrolment sides name; None: the sides name utterances.
      backend: fitted; None: no back-end.
    """

    method: Method
    background: Background
    models: Models | None = None
    backend: Backend | None = None

    def score(self, embeddings: Embeddings, trials: Trials) -> dict[str, Float[np.ndarray, " M"]]:
        """Scores ``[M]`` by system: cosine, with a cohort as-norm, and those of the back-end."""
        centred, cohort = centre(embeddings, self.background.mean), self.background.cohort
        scores: dict[str, Float[np.ndarray, " M"]]
        if self.models is None:
            own = enrolled = None
            scores = {COSINE: cosine_scores(centred, trials)}
        else:
            own = {model: self.models[model] for model in dict.fromkeys(trials.enrol)}
            enrolled = enrol_models(centred, own)
            scores = {COSINE: enrolment_scores(centred, trials, own, average=self.method.average)}
        if cohort is not None:
            scores[AS_NORM] = as_norm(centred, trials, cohort, top_n=self.method.top_n, models=enrolled)
        if self.backend is not None:
            scores |= self.backend.scores(embeddings, trials, own, self.method.average)
        return scores

    def fit_calibrations(self, embeddings: Embeddings, trials: Trials, known: Metadata) -> dict[str, Calibration]:
        """Fits the calibration of each system on a list, by the quality measures that differ within the list.

        Raises:
          UserError: see ``fit_calibration``.
        """
        calibrations = {}
        for system, scores in self.score(embeddings, trials).items():
            features = self._features(system, scores, embeddings, trials, known)
            differing = [name for name, values in zip(features.names, features.values.T, strict=True) if np.ptp(values)]
            calibrations[system] = fit_calibration(select_features(features, ("score", *differing[1:])), trials.target)
        return calibrations

    def score_and_calibrate(
        self, embeddings: Embeddings, trials: Trials, known: Metadata, calibrations: Mapping[str, Calibration]
    ) -> dict[str, Scores]:
        """Scores of all systems on a list, followed by the log-likelihood ratios of the calibrated ones."""
        scores = self.score(embeddings, trials)
        systems = {name: Scores(values) for name, values in scores.items()}
        for name, calibration in calibrations.items():
            features = self._features(name, scores[name], embeddings, trials, known)
            ratios = calibration.llr(select_features(features, calibration.features))
            systems[f"{name} calibrated"] = Scores(ratios, calibrated=True)
        return systems

    def _features(
        self, system: str, scores: Float[np.ndarray, " M"], embeddings: Embeddings, trials: Trials, known: Metadata
    ) -> Features:
        """The features for the calibration of a system."""
        if not self.method.quality:
            return score_feature(scores)
        centred, cohort_mean = centre(embeddings, self.background.mean), None
        if system == AS_NORM and self.background.cohort is not None:
            statistics = cohort_statistics(centred, self.background.cohort, top_n=self.method.top_n)
            cohort_mean = np.asarray(statistics.mean)
        durations_s = _durations(known, embeddings.ids)
        measures = utterance_measures(centred, duration_s=durations_s, cohort_mean=cohort_mean)
        return trial_features(scores, trials, embeddings.ids, measures)


def select_features(features: Features, names: Sequence[str]) -> Features:
    """Some of the features, in the order of the names.

    Raises:
      UserError: a feature is missing.
    """
    missing = [name for name in names if name not in features.names]
    if missing:
        raise UserError(
            f"The calibration needs {missing[0]}, which is not known here; known: {', '.join(features.names)}. "
            "Evaluate with --calibrate again."
        )
    columns = [features.names.index(name) for name in names]
    return Features(tuple(names), features.values[:, columns])


def _durations(known: Metadata, utterances: Sequence[str]) -> Float[np.ndarray, " N"] | None:
    """Seconds of each utterance, ``[N]``; None unless they are known for all."""
    seconds = known.columns.get(SECONDS, {})
    if not all(utterance in seconds for utterance in utterances):
        return None
    return np.array([float(seconds[utterance]) for utterance in utterances])
