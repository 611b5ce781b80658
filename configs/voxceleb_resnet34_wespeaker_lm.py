"""Second stage of configs/voxceleb_resnet34_wespeaker.py: WeSpeaker's large-margin fine-tuning.

Source: WeSpeaker, examples/voxceleb/v2 (arXiv 2210.17016). The classes at other speeds drop out, crops are six seconds
long, the margin is 0.5 from the first step, and the rate restarts at 4e-4 (1e-4 for 64 utterances) after an epoch of
warm-up.

Published, not measured by us: EER 0.797 / 0.937 / 1.695 % on VoxCeleb1-O/E/H cleaned, and 0.723 / 0.867 / 1.532 % with
AS-norm (its README). Ours: not yet run at this scale.

Hardware: as in the first stage; batches of 256 utterances with 600 frames, five epochs.

    mqmha average runs/wespeaker --last 10 --output runs/wespeaker_average
    mqmha train voxceleb_resnet34_wespeaker_lm --workdir runs/wespeaker_lm start.run=runs/wespeaker_average \
        data.train=shards/vox2_train data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, StartConfig, TrainConfig
from mqmha_jax.config_io import load_config

_BASE = load_config("voxceleb_resnet34_wespeaker")
_STEPS_PER_EPOCH = 1_092_009 // 256

CONFIG: Config = dataclasses.replace(
    _BASE,
    start=StartConfig(run="runs/wespeaker_average"),
    data=dataclasses.replace(_BASE.data, original_speed_only=True, crop_frames=600),
    loss=dataclasses.replace(_BASE.loss, margin=0.5, margin_start=0.0, margin_end=0.0),
    optimizer=dataclasses.replace(_BASE.optimizer, learning_rate=4e-4, final_learning_rate=1e-4, warmup=1 / 5),
    train=TrainConfig(
        steps=5 * _STEPS_PER_EPOCH,
        log_every=100,
        evaluate_every=_STEPS_PER_EPOCH,
        checkpoint_every=_STEPS_PER_EPOCH,
        keep_checkpoints=5,
    ),
)
