"""Turns scores into error rates, with intervals over speakers."""

from mqmha_jax.evaluation.metrics.detection import (
    DetectionCurve,
    act_dcf,
    cllr,
    detection_curve,
    equal_error_rate,
    min_cllr,
    min_dcf,
)

__all__ = ["DetectionCurve", "act_dcf", "cllr", "detection_curve", "equal_error_rate", "min_cllr", "min_dcf"]
