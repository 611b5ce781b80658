"""ResNet293, MQMHA pooling, 3 sub-centres, AAM-softmax with the inter-topK penalty, on VoxCeleb2-dev.

Paper: arXiv 2110.05042 (first used in arXiv 2109.01989) for pooling and loss. The same parts as
configs/voxceleb_resnet221_mqmha.py in a deeper network.

Data: VoxCeleb2-dev at speeds 1.0, 0.9 and 1.1 (17,982 classes) with noise and reverberation. Schedule and growth of the
margin are those of WeSpeaker's recipes (examples/voxceleb/v2, arXiv 2210.17016). Queries, heads and
the size of the embedding are our choice.

Published, not measured by us: WeSpeaker's ResNet293 with statistics pooling, without sub-centres and penalty, EER
0.595 / 0.756 / 1.433 % on VoxCeleb1-O/E/H cleaned, and 0.447 / 0.657 / 1.183 % after large-margin fine-tuning with
AS-norm (its README). Ours: not yet run at this scale.

Hardware: batches of 256 utterances with 200 frames, 150 epochs; see docs/recipes.md for the time on a machine.

    mqmha train voxceleb_resnet293_mqmha --workdir runs/resnet293_mqmha data.train=shards/vox2_train \
        data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, part
from mqmha_jax.config_io import load_config

_RESNET221 = load_config("voxceleb_resnet221_mqmha")

CONFIG: Config = dataclasses.replace(
    _RESNET221, model=dataclasses.replace(_RESNET221.model, encoder=part("resnet293", width=32))
)
