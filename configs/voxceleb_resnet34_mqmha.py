"""The paper: ResNet34, MQMHA pooling, 3 sub-centres, AM-softmax with the inter-topK penalty, on VoxCeleb2-dev.

Paper: arXiv 2110.05042 (first used in arXiv 2109.01989). Data: 1,092,009 utterances of 5,994 speakers at speeds 1.0,
0.9 and 1.1 (17,982 classes), each clean and with reverberation, noise, music and babble; 81-dimensional features.

Published, not measured by us: the same team's ResNet34 with plain statistics pooling and AM-softmax, EER 1.050 / 1.059
/ 1.846 % on VoxCeleb1-O/E/H cleaned (arXiv 2110.09720). Ours: not yet run at this scale.

Hardware: batches of 1,024 utterances with 200 frames; the paper used 8 GPUs. The number of steps (about 40 epochs) and
the exponential decay are our choice: the paper lowers the rate on a plateau.

    mqmha train voxceleb_resnet34_mqmha --workdir runs/paper data.train=shards/vox2_train \
        data.dev=shards/vox1 data.dev_trials=lists/vox1_o_cleaned.txt

These commands train from clean shards at the three speeds, with a fifth of the storage and new noise in every epoch
(docs/augmentation.md):

    mqmha prep noises MUSAN shards/noise --like voxceleb_resnet34_mqmha
    mqmha prep room-table RIRS_NOISES rooms.npz --like voxceleb_resnet34_mqmha
    mqmha train voxceleb_resnet34_mqmha --workdir runs/device data.train=shards/vox2_clean \
        augment.noise=shards/noise augment.rooms=rooms.npz
"""

from mqmha_jax.config import Config, DataConfig, FbankSpec, LossConfig, ModelConfig, OptimizerConfig, TrainConfig, part

CONFIG = Config(
    fbank=FbankSpec(num_mel_bins=80, use_energy=True, low_hz=40.0, high_hz=-200.0),
    data=DataConfig(train="shards/vox2_train", crop_frames=200, batch_size=1024, num_workers=8),
    model=ModelConfig(
        encoder=part("resnet34", width=32),
        pooling=part("mqmha", queries=4, heads=16, layers=1),
        embedding_dim=512,
        compute_dtype="bfloat16",
    ),
    loss=LossConfig(
        name="am", sub_centres=3, scale=36.0, margin=0.2, margin_start=0.05, margin_end=0.2, top_k=5, penalty=0.06
    ),
    optimizer=OptimizerConfig(
        name="sgd",
        learning_rate=0.08,
        final_learning_rate=1e-6,
        schedule="exponential",
        warmup=0.02,
        momentum=0.9,
        weight_decay=1e-3,
    ),
    train=TrainConfig(steps=128_000, log_every=100, evaluate_every=3_200, checkpoint_every=1_600, keep_checkpoints=10),
)
