"""A small corpus on two CPU cores in a quarter of an hour: a TDNN at half the frame rate, statistics, inter-topK AM.

For hundreds of speakers and a few hours of speech, each utterance clean and with noise, reverberation and telephone
bandwidth, at three speeds that count as three speakers. A batch holds two crops of each of its speakers, and a loss
over pairs pulls these together. We chose the settings on held-out training speakers (docs/learning.md): with so little
speech per speaker, statistics are as good as MQMHA, one centre is better than two, and spectrogram masks cost accuracy.
For MQMHA: ``model.pooling=mqmha model.pooling.heads=8 model.pooling.scorer_scale=0.1``.

Published: nothing at this scale. Ours: see README.md, "Real speech" (benchmarks/real_speech_race.py).

Our runs draw clean recordings twice as often as each other version (docs/tutorials/your_speech.md); the short form:

    mqmha prep csv LIST shards/train --versions clean,noise,reverb,telephone --noise NOISE --room-responses ROOMS \
        --speeds 1.0,0.9,1.1
    mqmha train laptop --workdir runs/laptop data.train=shards/train

A longer run gains from noise and rooms in the step: docs/learning.md, "Forty minutes".
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
    data=DataConfig(
        train="shards/train",
        crop_frames=200,
        batch_size=96,
        sampling="duration",
        speaker_exponent=1.0,
        utterances_per_speaker=2,
    ),
    model=ModelConfig(
        encoder=part("tdnn", channels=128, final_channels=384, dilations=[1, 1, 2, 1, 1], strides=[2, 1, 1, 1, 1]),
        pooling=part("tstp"),
        embedding_dim=192,
        normalize_pooled=True,
    ),
    loss=LossConfig(
        name="am",
        sub_centres=1,
        scale=30.0,
        margin=0.2,
        margin_start=0.1,
        margin_end=0.4,
        top_k=5,
        penalty=0.06,
        pairs=(PairTerm(name="angular_prototypical", weight=1.0),),
    ),
    optimizer=OptimizerConfig(
        name="adamw",
        learning_rate=2e-3,
        final_learning_rate=1e-5,
        schedule="cosine",
        warmup=0.1,
        weight_decay=0.05,
        max_gradient_norm=5.0,
    ),
    train=TrainConfig(steps=6_000, log_every=50, evaluate_every=1_000, checkpoint_every=250, keep_checkpoints=30),
)
