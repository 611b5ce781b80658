"""Encoders: ``(fbank [B,T,F], mask [B,T], *, train) -> (frames [B,t,D], mask [B,t])``, by name.

The fields of each class are its options. Every encoder is exact under padding: frames outside the mask change no
valid output, in evaluation and in training.
"""

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from mqmha_jax.models.encoders.campplus import CamPlusPlus
from mqmha_jax.models.encoders.ecapa import EcapaTdnn
from mqmha_jax.models.encoders.redimnet import REDIMNETS, ReDimNet
from mqmha_jax.models.encoders.repvgg import RepVgg
from mqmha_jax.models.encoders.res2net import Res2Net
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
    "simam_resnet34": partial(ResNet, stage_sizes=(3, 4, 6, 3), width=64, attention="simam"),
    "simam_resnet100": partial(ResNet, stage_sizes=(6, 16, 24, 3), width=64, attention="simam"),
    "tdnn": TDNN,
    "xvector": partial(TDNN, edges="dropped", affine_norm=False),
    "ecapa512": EcapaTdnn,
    "ecapa1024": partial(EcapaTdnn, channels=1024),
    "campplus": CamPlusPlus,
    "res2net": Res2Net,
    "eres2net": partial(Res2Net, enhanced=True, fusion="all"),
    "eres2net_large": partial(Res2Net, enhanced=True, fusion="all", width=64),
    "eres2net_aug": partial(Res2Net, enhanced=True, fusion="all", width=64, base_width=24, scale=3, expansion=4),
    "eres2netv2": partial(Res2Net, enhanced=True, fusion="last", width=64, base_width=26),
    "repvgg_tiny_a0": RepVgg,
    "repvgg_a0": partial(RepVgg, stage_sizes=(2, 4, 14, 1), width_multipliers=(0.75, 0.75, 0.75, 2.5)),
    "repvgg_a1": partial(RepVgg, stage_sizes=(2, 4, 14, 1), width_multipliers=(1.0, 1.0, 1.0, 2.5)),
    "repvgg_a2": partial(RepVgg, stage_sizes=(2, 4, 14, 1), width_multipliers=(1.5, 1.5, 1.5, 2.75)),
    "repvgg_b0": partial(RepVgg, stage_sizes=(4, 6, 16, 1), width_multipliers=(1.0, 1.0, 1.0, 2.5)),
    "repvgg_b1": partial(RepVgg, stage_sizes=(4, 6, 16, 1), width_multipliers=(2.0, 2.0, 2.0, 4.0)),
    **{f"redimnet_{size}": partial(ReDimNet, **options) for size, options in REDIMNETS.items()},
}
