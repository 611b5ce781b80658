"""Poolings: ``(frames [B,t,D], mask [B,t], *, train) -> [B,S]``, by name. The fields of each class are its options.

Attention over frames is one module. Its special cases are settings of its options, which a configuration can change.

==============  ===========================================  =====  =======  ======  ============  =======  =========
name            known as                                     heads  queries  layers  channel_wise  context  deviation
==============  ===========================================  =====  =======  ======  ============  =======  =========
``sap``         self-attentive (Zhu et al., 2018)            1      1        2       no            no       no
``asp``         attentive statistics (Okabe et al., 2018)    1      1        2       no            no       yes
``ccasp``       channel- and context-dependent, ECAPA's      1      1        2       yes           yes      yes
``mha``         split parts (India et al., 2019)             16     1        1       no            no       no
``global_mha``  several queries on all (Wang et al., 2020)   1      4        2       no            no       yes
``vsa``         vector-based (Wu et al., 2020)               1      4        2       yes           no       yes
``mqmha``       both (arXiv 2110.05042)                      16     4        1       no            no       yes
==============  ===========================================  =====  =======  ======  ============  =======  =========
"""

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from mqmha_jax.models.pooling.mqmha import MQMHA
from mqmha_jax.models.pooling.statistics import TAP, TSTP

POOLINGS: dict[str, Callable[..., nn.Module]] = {
    "tap": TAP,
    "tstp": TSTP,
    "sap": partial(MQMHA, heads=1, queries=1, layers=2, deviation=False),
    "asp": partial(MQMHA, heads=1, queries=1, layers=2),
    "ccasp": partial(MQMHA, heads=1, queries=1, layers=2, bottleneck=128, channel_wise=True, context=True),
    "mha": partial(MQMHA, queries=1, deviation=False),
    "global_mha": partial(MQMHA, heads=1, layers=2),
    "vsa": partial(MQMHA, heads=1, layers=2, channel_wise=True),
    "mqmha": MQMHA,
}
