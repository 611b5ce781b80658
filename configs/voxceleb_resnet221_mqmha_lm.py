"""Second stage of configs/voxceleb_resnet221_mqmha.py: large-margin fine-tuning of ResNet221 with MQMHA.

Paper: arXiv 2110.05042; the settings of this stage are those of WeSpeaker's recipes.

Published, not measured by us: WeSpeaker's ResNet221 with statistics pooling after this stage, EER
0.580 / 0.729 / 1.351 % on VoxCeleb1-O/E/H cleaned, and 0.505 / 0.676 / 1.213 % with AS-norm (its README). Ours: not
yet run at this scale.

Hardware: as in the first stage; batches of 256 utterances with 600 frames, five epochs.

    mqmha average runs/resnet221_mqmha --last 10 --output runs/resnet221_mqmha_average
    mqmha train voxceleb_resnet221_mqmha_lm --workdir runs/resnet221_mqmha_lm start.run=runs/resnet221_mqmha_average \
        data.train=shards/vox2_train data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, StartConfig
from mqmha_jax.config_io import load_config

_FINE_TUNING = load_config("voxceleb_resnet34_wespeaker_lm")

CONFIG: Config = dataclasses.replace(
    _FINE_TUNING,
    model=load_config("voxceleb_resnet221_mqmha").model,
    loss=dataclasses.replace(_FINE_TUNING.loss, sub_centres=3),
    start=StartConfig(run="runs/resnet221_mqmha_average"),
)
