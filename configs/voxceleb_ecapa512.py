"""ECAPA-TDNN with 512 channels and its own pooling, with AAM-softmax on VoxCeleb2-dev.

Paper: arXiv 2005.07143.

Data: VoxCeleb2-dev at speeds 1.0, 0.9 and 1.1 (17,982 classes) with noise and reverberation. Schedule and growth of the
margin are those of WeSpeaker's recipes (examples/voxceleb/v2, arXiv 2210.17016).

Published, not measured by us: WeSpeaker's ECAPA-TDNN-GLOB-c512, EER 1.069 / 1.209 / 2.310 % on VoxCeleb1-O/E/H
cleaned, and 0.782 / 1.005 / 1.824 % after large-margin fine-tuning with AS-norm (its README). Ours:
not yet run at this scale.

Hardware: any accelerator; batches of 256 utterances with 200 frames; see docs/recipes.md for the time on a machine.

    mqmha train voxceleb_ecapa512 --workdir runs/ecapa512 data.train=shards/vox2_train \
        data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, ModelConfig, part
from mqmha_jax.config_io import load_config

CONFIG: Config = dataclasses.replace(
    load_config("voxceleb_resnet34_wespeaker"),
    model=ModelConfig(
        encoder=part("ecapa512", summed_inputs=False),
        pooling=part("ccasp"),
        embedding_dim=192,
        normalize_pooled=True,
        compute_dtype="bfloat16",
    ),
)
