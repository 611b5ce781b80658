"""ReDimNet-B2 with ECAPA's pooling, with AAM-softmax on VoxCeleb2-dev.

Paper: arXiv 2407.18223; 120 epochs, as in WeSpeaker's recipe for it.

Data: VoxCeleb2-dev at speeds 1.0, 0.9 and 1.1 (17,982 classes) with noise and reverberation. Schedule and growth of the
margin are those of WeSpeaker's recipes (examples/voxceleb/v2, arXiv 2210.17016).

Published, not measured by us: the authors' ReDimNet-B2 after large-margin fine-tuning, EER 0.57 / 0.76 / 1.32 % on
VoxCeleb1-O/E/H cleaned, and 0.52 / 0.74 / 1.27 % with AS-norm (github.com/IDRnD/ReDimNet). WeSpeaker's recipe trains
with SphereFace2; AAM-softmax is our choice. Ours: not yet run at this scale.

Hardware: any accelerator; batches of 256 utterances with 200 frames; see docs/recipes.md for the time on a machine.

    mqmha train voxceleb_redimnet_b2 --workdir runs/redimnet_b2 data.train=shards/vox2_train \
        data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, FbankSpec, ModelConfig, part
from mqmha_jax.config_io import load_config

_WESPEAKER = load_config("voxceleb_resnet34_wespeaker")
_EPOCHS, _EPOCHS_OF_WESPEAKER = 120, 150
_LONGER = _EPOCHS_OF_WESPEAKER / _EPOCHS

CONFIG: Config = dataclasses.replace(
    _WESPEAKER,
    fbank=FbankSpec(num_mel_bins=72),
    model=ModelConfig(
        encoder=part("redimnet_b2"),
        pooling=part("ccasp"),
        embedding_dim=192,
        normalize_pooled=True,
        compute_dtype="bfloat16",
    ),
    loss=dataclasses.replace(
        _WESPEAKER.loss,
        margin_start=_WESPEAKER.loss.margin_start * _LONGER,
        margin_end=_WESPEAKER.loss.margin_end * _LONGER,
    ),
    optimizer=dataclasses.replace(
        _WESPEAKER.optimizer, warmup=_WESPEAKER.optimizer.warmup * _LONGER, weight_decay=2e-5
    ),
    train=dataclasses.replace(_WESPEAKER.train, steps=_WESPEAKER.train.steps * _EPOCHS // _EPOCHS_OF_WESPEAKER),
)
