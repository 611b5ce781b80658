"""The paper's second stage: large-margin fine-tuning of configs/voxceleb_resnet34_mqmha.py.

Paper: arXiv 2110.05042. Several sources describe this stage and leave some settings open. It drops the copies at other
speeds (5,994 classes keep their prototypes), lengthens crops to six seconds, raises the margin to 0.5 in angle,
switches the inter-topK penalty off, and restarts the optimizer with a small rate.

Published, not measured by us: in the nearest recipe, WeSpeaker's ResNet34, fine-tuning with AS-norm lowers EER from
0.867 / 1.049 / 1.959 % to 0.723 / 0.867 / 1.532 % on VoxCeleb1-O/E/H cleaned. Ours: not yet run at this scale.

Hardware: as in the first stage; batches of 256 utterances with 600 frames. Five epochs, as in WeSpeaker's recipe.

    mqmha average runs/paper --last 10 --output runs/paper_average
    mqmha train voxceleb_resnet34_mqmha_lm --workdir runs/paper_lm start.run=runs/paper_average \
        data.train=shards/vox2_train data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

import dataclasses

from mqmha_jax.config import Config, DataConfig, LossConfig, OptimizerConfig, StartConfig, TrainConfig
from mqmha_jax.config_io import load_config

_STEPS_PER_EPOCH = 1_092_009 // 256

CONFIG: Config = dataclasses.replace(
    load_config("voxceleb_resnet34_mqmha"),
    start=StartConfig(run="runs/paper_average"),
    data=DataConfig(
        train="shards/vox2_train", original_speed_only=True, crop_frames=600, batch_size=256, num_workers=8
    ),
    loss=LossConfig(name="aam", sub_centres=3, scale=36.0, margin=0.5, top_k=0, penalty=0.0),
    optimizer=OptimizerConfig(
        name="sgd",
        learning_rate=8e-5,
        final_learning_rate=2e-5,
        schedule="exponential",
        warmup=0.0,
        momentum=0.9,
        weight_decay=1e-3,
    ),
    train=TrainConfig(
        steps=5 * _STEPS_PER_EPOCH,
        log_every=100,
        evaluate_every=_STEPS_PER_EPOCH,
        checkpoint_every=_STEPS_PER_EPOCH,
        keep_checkpoints=5,
    ),
)
