"""Predicts what training costs on a TPU slice: asks the TPU's compiler, on a machine without a TPU."""

from mqmha_jax.plan.plan import Plan, make_plan
from mqmha_jax.plan.report import format_plan, plan_to_dict
