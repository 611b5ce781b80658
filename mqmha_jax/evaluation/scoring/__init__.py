"""Turns embeddings into scores: cosine, normalisation, enrolment, back-ends, calibration, decisions."""

from mqmha_jax.evaluation.scoring.cosine import as_norm, cosine_scores, score_matrix
from mqmha_jax.evaluation.scoring.enrolment import enrol_models
from mqmha_jax.evaluation.scoring.units import centre

__all__ = ["as_norm", "centre", "cosine_scores", "enrol_models", "score_matrix"]
