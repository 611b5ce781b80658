"""CAM++ with statistics pooling, with AAM-softmax on VoxCeleb2-dev.

Paper: arXiv 2303.00332.

Data: VoxCeleb2-dev at speeds 1.0, 0.9 and 1.1 (17,982 classes) with noise and reverberation. Schedule and growth of the
margin are those of WeSpeaker's recipes (examples/voxceleb/v2, arXiv 2210.17016).

Published, not measured by us: WeSpeaker's CAM++, EER 0.803 / 0.932 / 1.860 % on VoxCeleb1-O/E/H cleaned, and 0.659 /
0.803 / 1.569 % after large-margin fine-tuning with AS-norm (its README). Ours:
not yet run at this scale.

Hardware: any accelerator; batches of 256 utterances with 200 frames; see docs/recipes.md for the time on a machine.

    mqmha train voxceleb_campplus --workdir runs/campplus data.train=shards/vox2_train \
        data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, ModelConfig, part
from mqmha_jax.config_io import load_config

CONFIG: Config = dataclasses.replace(
    load_config("voxceleb_resnet34_wespeaker"),
    model=ModelConfig(
        encoder=part("campplus"),
        pooling=part("tstp"),
        embedding_dim=512,
        embedding_bias=False,
        normalize_embedding=True,
        compute_dtype="bfloat16",
    ),
)
