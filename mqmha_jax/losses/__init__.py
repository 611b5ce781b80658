"""Losses over speakers: what a margin does to a cosine, the inter-topK penalty, and how classes are reduced."""

from mqmha_jax.losses.chunked_classes import ChunkedClasses
from mqmha_jax.losses.class_layout import ClassLayout
from mqmha_jax.losses.class_reducer import ClassReducer, ClassSlice, DenseClasses
from mqmha_jax.losses.margin import MARGINS, MarginPair
from mqmha_jax.losses.margin_softmax import Loss, LossInputs, build_loss, margin_softmax
from mqmha_jax.losses.sharded_classes import ShardedClasses
