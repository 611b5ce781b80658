"""Second stage of configs/voxceleb_campplus.py: large-margin fine-tuning of CAM++.

Paper: arXiv 2303.00332; the settings of this stage are those of WeSpeaker's recipes.

Published, not measured by us: WeSpeaker's CAM++ after this stage, EER 0.707 / 0.845 / 1.664 % on VoxCeleb1-O/E/H
cleaned, and 0.659 / 0.803 / 1.569 % with AS-norm (its README). Ours: not yet run at this scale.

Hardware: as in the first stage; batches of 256 utterances with 600 frames, five epochs.

    mqmha average runs/campplus --last 10 --output runs/campplus_average
    mqmha train voxceleb_campplus_lm --workdir runs/campplus_lm start.run=runs/campplus_average \
        data.train=shards/vox2_train data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, StartConfig
from mqmha_jax.config_io import load_config

_BASE = load_config("voxceleb_campplus")

CONFIG: Config = dataclasses.replace(
    load_config("voxceleb_resnet34_wespeaker_lm"),
    fbank=_BASE.fbank,
    model=_BASE.model,
    start=StartConfig(run="runs/campplus_average"),
)
