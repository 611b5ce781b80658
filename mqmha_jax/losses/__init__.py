"""Losses over speakers: what a margin does to a cosine, the inter-topK penalty, and how classes are reduced."""

from mqmha_jax.losses.class_reducer import ClassReducer, DenseClasses
from mqmha_jax.losses.margin import MARGINS, MarginPair
from mqmha_jax.losses.margin_softmax import Loss, LossInputs, build_loss, margin_softmax
