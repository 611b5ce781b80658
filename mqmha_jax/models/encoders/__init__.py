"""Encoders: ``(fbank [B,T,F], mask [B,T], *, train) -> (frames [B,t,D], mask [B,t])``, by name.

The fields of each class are its options. Every encoder is exact under padding: frames outside the mask change no
valid output, in evaluation and in training.
"""

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from mqmha_jax.models.encoders.campplus import CamPlusPlus
from mqmha_jax.models.encoders.ecapa import EcapaTdnn
from mqmha_jax.models.encoders.resnet import ResNet
from mqmha_jax.models.encoders.tdnn import TDNN

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(ResNet, stage_sizes=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, stage_sizes=(3, 4, 6, 3)),
    "resnet50": partial(ResNet, stage_sizes=(3, 4, 6, 3), block="bottleneck"),
    "resnet101": partial(ResNet, stage_sizes=(3, 4, 23, 3), block="bottleneck"),
    "resnet152": partial(ResNet, stage_sizes=(3, 8, 36, 3), block="bottleneck"),
    "resnet221": partial(ResNet, stage_sizes=(6, 16, 48, 3), block="bottleneck"),
    "resnet293": partial(ResNet, stage_sizes=(10, 20, 64, 3), block="bottleneck"),
    "tdnn": TDNN,
    "xvector": partial(TDNN, edges="dropped", affine_norm=False),
    "ecapa512": EcapaTdnn,
    "ecapa1024": partial(EcapaTdnn, channels=1024),
    "campplus": CamPlusPlus,
}
