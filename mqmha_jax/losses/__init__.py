"""Losses over speakers: margins, the inter-topK penalty, layouts of the classes, and losses over pairs."""

from mqmha_jax.losses.build import Loss, LossInputs, build_loss, check_loss
from mqmha_jax.losses.chunked_classes import ChunkedClasses
from mqmha_jax.losses.class_layout import ClassLayout
from mqmha_jax.losses.class_reducer import ClassReducer, ClassSlice, DenseClasses
from mqmha_jax.losses.inter_topk import inter_topk_softmax, inter_topk_softmax_with_prototypes
from mqmha_jax.losses.margin_softmax import margin_softmax
from mqmha_jax.losses.margins import MARGINS, Example, Margin
from mqmha_jax.losses.pairs import PAIRS, Batch, PairLoss
from mqmha_jax.losses.sharded_classes import ShardedClasses
