"""Speaker verification in JAX: MQMHA pooling and the inter-topK penalty (arXiv 2110.05042).

This is the public face. ``import mqmha_jax`` imports no JAX: a name loads its module when it is first used (PEP 562).

``mqmha_jax.train`` is a package, as every folder here; its function is ``mqmha_jax.train.train(config, workdir)``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers and editors; a test holds both lists together
    from mqmha_jax import train as train
    from mqmha_jax.config import Config as Config
    from mqmha_jax.config import FbankSpec as FbankSpec
    from mqmha_jax.config_io import load_config as load_config
    from mqmha_jax.errors import UserError as UserError
    from mqmha_jax.evaluation.metrics.detection import detection_curve as detection_curve
    from mqmha_jax.evaluation.metrics.detection import equal_error_rate as equal_error_rate
    from mqmha_jax.evaluation.metrics.detection import min_dcf as min_dcf
    from mqmha_jax.evaluation.scoring.cosine import as_norm as as_norm
    from mqmha_jax.evaluation.scoring.cosine import cosine_scores as cosine_scores
    from mqmha_jax.evaluation.scoring.units import centre as centre
    from mqmha_jax.features.audio import read_audio as read_audio
    from mqmha_jax.features.fbank import log_mel_fbank as log_mel_fbank
    from mqmha_jax.inference import SpeakerEncoder as SpeakerEncoder
    from mqmha_jax.losses.inter_topk import inter_topk_softmax as inter_topk_softmax
    from mqmha_jax.losses.inter_topk import inter_topk_softmax_with_prototypes as inter_topk_softmax_with_prototypes
    from mqmha_jax.models.encoders import ENCODERS as ENCODERS
    from mqmha_jax.models.encoders.ecapa import EcapaTdnn as EcapaTdnn
    from mqmha_jax.models.encoders.resnet import ResNet as ResNet
    from mqmha_jax.models.encoders.tdnn import TDNN as TDNN
    from mqmha_jax.models.pooling import POOLINGS as POOLINGS
    from mqmha_jax.models.pooling.mqmha import MQMHA as MQMHA
    from mqmha_jax.models.pooling.statistics import TAP as TAP
    from mqmha_jax.models.pooling.statistics import TSTP as TSTP
    from mqmha_jax.models.speaker_net import SpeakerNet as SpeakerNet
    from mqmha_jax.store.speaker_store import SpeakerStore as SpeakerStore
    from mqmha_jax.types import Embeddings as Embeddings
    from mqmha_jax.types import Trials as Trials

__version__ = "0.1.0"

_MODULES = {
    # the network
    "MQMHA": "models.pooling.mqmha",
    "TSTP": "models.pooling.statistics",
    "TAP": "models.pooling.statistics",
    "POOLINGS": "models.pooling",
    "ResNet": "models.encoders.resnet",
    "TDNN": "models.encoders.tdnn",
    "EcapaTdnn": "models.encoders.ecapa",
    "ENCODERS": "models.encoders",
    "SpeakerNet": "models.speaker_net",
    # the paper's loss
    "inter_topk_softmax": "losses.inter_topk",
    "inter_topk_softmax_with_prototypes": "losses.inter_topk",
    # audio and features
    "read_audio": "features.audio",
    "log_mel_fbank": "features.fbank",
    "FbankSpec": "config",
    # a trained network
    "SpeakerEncoder": "inference",
    "SpeakerStore": "store.speaker_store",
    # scores and error rates
    "Embeddings": "types",
    "Trials": "types",
    "centre": "evaluation.scoring.units",
    "cosine_scores": "evaluation.scoring.cosine",
    "as_norm": "evaluation.scoring.cosine",
    "detection_curve": "evaluation.metrics.detection",
    "equal_error_rate": "evaluation.metrics.detection",
    "min_dcf": "evaluation.metrics.detection",
    # an experiment
    "Config": "config",
    "load_config": "config_io",
    "UserError": "errors",
}
"""Where each public name lives, below ``mqmha_jax``."""

_PACKAGES = ("train",)

__all__ = [*_MODULES, *_PACKAGES]  # for "from mqmha_jax import *"


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"mqmha_jax.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'mqmha_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mqmha_jax.{_MODULES[name]}"), name)
    globals()[name] = value  # so that the next use costs nothing
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_PACKAGES})
