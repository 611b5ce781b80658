"""Controlled comparisons: a grid of configurations, each with several seeds, and one honest table."""

from mqmha_jax.study.spec import Budget, Control, Factor, Study, TrialList
