"""WeSpeaker's ResNet34 recipe, for comparison: statistics pooling, AAM-softmax, no sub-centres and no penalty.

Source: WeSpeaker, examples/voxceleb/v2 (arXiv 2210.17016). Data: VoxCeleb2-dev at speeds 1.0, 0.9 and 1.1 (17,982
classes) with noise and reverberation.

Published, not measured by us: EER 0.867 / 1.049 / 1.959 % on VoxCeleb1-O/E/H cleaned, plain cosine without large-margin
fine-tuning. Ours: not yet run at this scale.

Hardware: any; batches of 256 utterances with 200 frames, 150 epochs.

    mqmha train voxceleb_resnet34_wespeaker --workdir runs/wespeaker data.train=shards/vox2_train \
        data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt
"""

from mqmha_jax.config import Config, DataConfig, LossConfig, ModelConfig, OptimizerConfig, TrainConfig, part

_EPOCHS = 150
_STEPS_PER_EPOCH = 1_092_009 // 256

CONFIG = Config(
    data=DataConfig(train="shards/vox2_train", crop_frames=200, batch_size=256, num_workers=8),
    model=ModelConfig(
        encoder=part("resnet34", width=32), pooling=part("tstp"), embedding_dim=256, compute_dtype="bfloat16"
    ),
    loss=LossConfig(
        name="aam",
        sub_centres=1,
        scale=32.0,
        margin=0.2,
        margin_start=20 / _EPOCHS,
        margin_end=40 / _EPOCHS,
        margin_growth="exponential",
        top_k=0,
    ),
    optimizer=OptimizerConfig(
        name="sgd",
        # WeSpeaker's 0.1 and 5e-5 are for 64 utterances; it multiplies them by the batch size / 64.
        learning_rate=0.4,
        final_learning_rate=2e-4,
        schedule="exponential",
        warmup=6 / _EPOCHS,
        momentum=0.9,
        weight_decay=1e-4,
    ),
    train=TrainConfig(
        steps=_EPOCHS * _STEPS_PER_EPOCH,
        log_every=100,
        evaluate_every=_STEPS_PER_EPOCH,
        checkpoint_every=_STEPS_PER_EPOCH,
        keep_checkpoints=10,
    ),
)
