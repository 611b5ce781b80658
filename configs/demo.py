"""The demo: a small TDNN with MQMHA, the sub-centre inter-topK AM-softmax and a loss over pairs, on synthetic voices.

Takes minutes on two CPU cores: make demo (or: mqmha demo --workdir runs/demo). Error rates on synthetic voices show
that the system works; they say nothing about real voices.
"""

from mqmha_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PairTerm,
    TrainConfig,
    part,
)

CONFIG = Config(
    data=DataConfig(crop_frames=150, batch_size=64, speaker_exponent=1.0, utterances_per_speaker=2),
    model=ModelConfig(
        encoder=part("tdnn", channels=192, final_channels=384, dilations=[1, 1, 2, 1, 1], strides=[2, 1, 1, 1, 1]),
        pooling=part("mqmha", heads=8, queries=2),
        embedding_dim=128,
        normalize_pooled=True,
    ),
    loss=LossConfig(
        name="am",
        sub_centres=3,
        scale=30.0,
        margin=0.2,
        margin_start=0.1,
        margin_end=0.4,
        top_k=5,
        pairs=(PairTerm(name="angular_prototypical", weight=1.0),),
    ),
    optimizer=OptimizerConfig(
        name="adamw",
        learning_rate=2e-3,
        final_learning_rate=2e-5,
        schedule="cosine",
        warmup=0.1,
        weight_decay=0.05,
        max_gradient_norm=5.0,
    ),
    train=TrainConfig(steps=800, log_every=20, evaluate_every=200, checkpoint_every=200),
)
