"""Controlled comparisons: a grid of configurations, several seeds of each, one honest table."""

from mqmha_jax.study.spec import Budget, Control, Factor, Study, TrialList
