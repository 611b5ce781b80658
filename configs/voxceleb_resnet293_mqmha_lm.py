"""Second stage of configs/voxceleb_resnet293_mqmha.py: large-margin fine-tuning of ResNet293 with MQMHA.

Paper: arXiv 2110.05042; the settings of this stage are those of WeSpeaker's recipes.

Published, not measured by us: WeSpeaker's ResNet293 with statistics pooling after this stage, EER
0.532 / 0.707 / 1.311 % on VoxCeleb1-O/E/H cleaned, and 0.447 / 0.657 / 1.183 % with AS-norm (its README). Ours: not
yet run at this scale.

Hardware: as in the first stage; batches of 256 utterances with 600 frames, five epochs.

    mqmha average runs/resnet293_mqmha --last 10 --output runs/resnet293_mqmha_average
    mqmha train voxceleb_resnet293_mqmha_lm --workdir runs/resnet293_mqmha_lm start.run=runs/resnet293_mqmha_average \
        data.train=shards/vox2_train data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, StartConfig
from mqmha_jax.config_io import load_config

CONFIG: Config = dataclasses.replace(
    load_config("voxceleb_resnet221_mqmha_lm"),
    model=load_config("voxceleb_resnet293_mqmha").model,
    start=StartConfig(run="runs/resnet293_mqmha_average"),
)
