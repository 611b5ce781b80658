"""Second stage of configs/voxceleb_redimnet_b2.py: large-margin fine-tuning of ReDimNet-B2.

Paper: arXiv 2407.18223; the settings of this stage are those of WeSpeaker's recipes.

Published, not measured by us: the authors' ReDimNet-B2 after such a stage, EER 0.57 / 0.76 / 1.32 % on VoxCeleb1-O/E/H
cleaned, and 0.52 / 0.74 / 1.27 % with AS-norm (github.com/IDRnD/ReDimNet). Ours: not yet run at this scale.

Hardware: as in the first stage; batches of 256 utterances with 600 frames, five epochs.

    mqmha average runs/redimnet_b2 --last 10 --output runs/redimnet_b2_average
    mqmha train voxceleb_redimnet_b2_lm --workdir runs/redimnet_b2_lm start.run=runs/redimnet_b2_average \
        data.train=shards/vox2_train data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, StartConfig
from mqmha_jax.config_io import load_config

_BASE = load_config("voxceleb_redimnet_b2")

CONFIG: Config = dataclasses.replace(
    load_config("voxceleb_resnet34_wespeaker_lm"),
    fbank=_BASE.fbank,
    model=_BASE.model,
    start=StartConfig(run="runs/redimnet_b2_average"),
)
