"""Every option of an experiment with its type, its default and its meaning.

``config_io.py`` loads, overrides, validates and compares configurations.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

Positive = Annotated[int, Gt(0)]
Count = Annotated[int, Ge(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]


def option(default: Any, help: str) -> Any:
    """A field with its meaning, which ``mqmha show`` and the documentation print."""
    return field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True, kw_only=True)
class FbankSpec:
    """How a waveform becomes log-mel filterbank frames; Kaldi's names and meanings."""

    sample_rate_hz: Positive = option(16_000, "audio is resampled to this rate")
    num_mel_bins: Positive = option(80, "mel bands; 81-dimensional features are 80 bands and the log energy")
    frame_length_ms: NonNegative = option(25.0, "window length")
    frame_shift_ms: NonNegative = option(10.0, "hop between frames")
    window: Literal["povey", "hamming"] = option("hamming", "window shape")
    low_hz: NonNegative = option(20.0, "lower edge of the first band")
    high_hz: float = option(0.0, "upper edge of the last band; zero or negative counts down from Nyquist")
    use_energy: bool = option(False, "put the log energy of the frame before the bands, as the paper does")
    preemphasis: Fraction = option(0.97, "pre-emphasis coefficient")
    snip_edges: bool = option(True, "only whole windows; False reflects the signal at its ends")
    dither: NonNegative = option(0.0, "standard deviation of seeded noise, in 16-bit sample units; 0 switches it off")

    @property
    def num_features(self) -> int:
        """Values per frame, F."""
        return self.num_mel_bins + int(self.use_energy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the shards are and how a training batch is drawn from them."""

    train: str = option("", "directory of training shards")
    dev: str = option("", "directory of shards with the dev list's utterances; empty: no EER during training")
    dev_trials: str = option("", "trial list over the dev shards")
    crop_frames: Positive = option(200, "frames per training example; shorter utterances are repeated")
    batch_size: Positive = option(128, "training examples per step, over all devices and hosts")
    sampling: Literal["utterance", "duration", "speaker"] = option(
        "utterance", "draw every utterance equally often, in proportion to its length, or every speaker equally often"
    )
    utterances_per_speaker: Positive = option(1, "U: a batch holds batch_size / U speakers with U utterances each")
    num_workers: Count = option(0, "worker processes that read crops; 0 reads in threads of the main process")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
    """Masks drawn per example inside the training step; a masked value becomes the utterance mean."""

    num_time_masks: Count = option(0, "masks along time per example")
    max_time_mask_frames: Positive = option(10, "longest time mask")
    num_frequency_masks: Count = option(0, "masks along frequency per example")
    max_frequency_mask_bins: Positive = option(8, "widest frequency mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A part chosen by name; its options are the fields of the class that the name stands for."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def part(name: str, **options: Any) -> Part:
    """``part("mqmha", heads=16)``: short for ``Part(name="mqmha", options={"heads": 16})``."""
    return Part(name=name, options=options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network from filterbank to embedding."""

    encoder: Part = field(default_factory=lambda: part("resnet34"), metadata={"help": "frames to frames"})
    pooling: Part = field(default_factory=lambda: part("mqmha"), metadata={"help": "frames to one vector"})
    embedding_dim: Positive = option(256, "size of the embedding, E")
    normalize_pooled: bool = option(False, "batch normalisation between pooling and the embedding layer")
    normalize_embedding: bool = option(False, "batch normalisation of the embedding, without scale or bias")
    compute_dtype: Literal["float32", "bfloat16"] = option(
        "float32", "type of activations; parameters, statistics, cosines and losses stay float32"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The margin softmax over speakers and the inter-topK penalty."""

    name: str = option("am", "how the margin acts on the target's cosine")
    sub_centres: Positive = option(3, "prototypes per speaker, K; the nearest one counts")
    scale: NonNegative = option(32.0, "s: cosines are multiplied by it")
    margin: NonNegative = option(0.2, "m: final margin")
    margin_start: Fraction = option(0.0, "fraction of the run at which the margin starts to grow from zero")
    margin_end: Fraction = option(0.0, "fraction of the run at which the margin reaches its final value")
    margin_growth: Literal["linear", "exponential"] = option(
        "linear", "shape of the growth; exponential rises fast and settles, as WeSpeaker's"
    )
    top_k: Count = option(5, "how many of the nearest other speakers are penalised; 0 switches the penalty off")
    penalty: NonNegative = option(0.06, "m': final inter-topK penalty; it grows in proportion to the margin")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The update rule and the learning rate."""

    name: Literal["sgd", "adamw"] = option("sgd", "update rule")
    learning_rate: NonNegative = option(0.1, "highest learning rate")
    final_learning_rate: NonNegative = option(5e-5, "learning rate of the last step")
    schedule: Literal["exponential", "cosine", "constant"] = option("exponential", "decay after the warm-up")
    warmup: Fraction = option(0.04, "fraction of the run with a linear warm-up")
    momentum: Fraction = option(0.9, "SGD's momentum (Nesterov), AdamW's first decay")
    weight_decay: NonNegative = option(1e-4, "decay of kernels and prototypes; biases and normalisation have none")
    max_gradient_norm: NonNegative = option(0.0, "clip the global norm of the gradient; 0: no clipping")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of the run, and what is kept and reported on the way."""

    steps: Positive = option(10_000, "optimizer steps of the run")
    seed: Count = option(0, "all randomness of the run: initial values, order of the data, crops, masks")
    log_every: Positive = option(50, "steps between lines of the log")
    evaluate_every: Positive = option(1_000, "steps between evaluations of the dev list")
    checkpoint_every: Positive = option(1_000, "steps between checkpoints")
    keep_checkpoints: Positive = option(3, "how many of the latest checkpoints stay on disk")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One experiment."""

    fbank: FbankSpec = field(default_factory=FbankSpec)
    data: DataConfig = field(default_factory=DataConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
