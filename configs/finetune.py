"""A published network for your own speakers, on a laptop: 3D-Speaker's CAM++, fine-tuned for minutes on two cores.

The network is the one that ``make pretrained`` downloads; for another one, copy ``model`` and ``fbank`` from the
``config.json`` of its import. The prototypes start from the mean embedding of each speaker. All below the last block
stays as it is, which saves most of the backward pass. Batch normalisation stays too: few speakers say little about its
statistics.

Published: nothing. Ours: see docs/fine_tuning.md (benchmarks/fine_tuning.py).

    make pretrained
    mqmha prep folder my_speech/train shards/train --like build/pretrained/campplus
    mqmha train finetune --workdir runs/tuned data.train=shards/train start.run=build/pretrained/campplus
"""

from mqmha_jax.config import (
    Config,
    DataConfig,
    FbankSpec,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    StartConfig,
    TrainConfig,
    part,
)

_BELOW_THE_LAST_BLOCK = ("front", "first*", "block[12]_*", "transit[12]*")

CONFIG = Config(
    fbank=FbankSpec(window="povey"),
    data=DataConfig(train="shards/train", crop_frames=150, batch_size=32),
    model=ModelConfig(
        encoder=part("campplus"),
        pooling=part("tstp", variance_offset=0.0),
        embedding_dim=192,
        embedding_bias=False,
        normalize_embedding=True,
    ),
    loss=LossConfig(name="am", sub_centres=1, scale=30.0, margin=0.2, top_k=5, penalty=0.06),
    optimizer=OptimizerConfig(
        name="adamw",
        learning_rate=1e-3,
        final_learning_rate=1e-5,
        schedule="cosine",
        warmup=0.1,
        weight_decay=0.0,
        rates={"net": 0.1},
        frozen=tuple(f"net/encoder/{name}" for name in _BELOW_THE_LAST_BLOCK),
        max_gradient_norm=5.0,
    ),
    train=TrainConfig(steps=60, log_every=10, checkpoint_every=20),
    start=StartConfig(run="build/pretrained/campplus", head="means", batch_norm="keep"),
)
