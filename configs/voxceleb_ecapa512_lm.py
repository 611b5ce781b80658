"""Second stage of configs/voxceleb_ecapa512.py: large-margin fine-tuning of ECAPA-TDNN.

Paper: arXiv 2005.07143; the settings of this stage are those of WeSpeaker's recipes.

Published, not measured by us: WeSpeaker's ECAPA-TDNN-GLOB-c512 after this stage, EER 0.878 / 1.072 / 2.007 % on
VoxCeleb1-O/E/H cleaned, and 0.782 / 1.005 / 1.824 % with AS-norm (its README). Ours: not yet run at this scale.

Hardware: as in the first stage; batches of 256 utterances with 600 frames, five epochs.

    mqmha average runs/ecapa512 --last 10 --output runs/ecapa512_average
    mqmha train voxceleb_ecapa512_lm --workdir runs/ecapa512_lm start.run=runs/ecapa512_average \
        data.train=shards/vox2_train data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, StartConfig
from mqmha_jax.config_io import load_config

_BASE = load_config("voxceleb_ecapa512")

CONFIG: Config = dataclasses.replace(
    load_config("voxceleb_resnet34_wespeaker_lm"),
    fbank=_BASE.fbank,
    model=_BASE.model,
    start=StartConfig(run="runs/ecapa512_average"),
)
