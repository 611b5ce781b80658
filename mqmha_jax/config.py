"""Every option of an experiment with its type, its default and its meaning.

``config_io.py`` loads, overrides, validates and compares configurations.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from mqmha_jax.errors import UserError
from mqmha_jax.field_checks import LARGEST_INTEGER, check_fields

Positive = Annotated[int, Gt(0), Le(LARGEST_INTEGER)]
Count = Annotated[int, Ge(0), Le(LARGEST_INTEGER)]
MeshSize = Annotated[int, Ge(-1), Le(LARGEST_INTEGER)]
NonNegative = Annotated[float, Ge(0)]
AboveZero = Annotated[float, Gt(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Weight = Annotated[float, Gt(0), Le(1e6)]
Exponent = Annotated[float, Ge(0), Le(4)]
BelowOne = Annotated[float, Ge(0), Lt(1)]


def option(default: Any, help: str) -> Any:
    """A field with its meaning, for ``mqmha show`` and the documentation."""
    return field(default=default, metadata={"help": help})


class _Checked:
    """A section whose values are checked wherever it is built, in Python as well as from a file."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FbankSpec(_Checked):
    """How a waveform becomes log-mel filterbank frames; Kaldi's names and meanings."""

    sample_rate_hz: Positive = option(16_000, "audio is resampled to this rate")
    num_mel_bins: Positive = option(80, "mel bands; 81-dimensional features are 80 bands and the log energy")
    frame_length_ms: AboveZero = option(25.0, "window length")
    frame_shift_ms: AboveZero = option(10.0, "hop between frames")
    window: Literal["povey", "hamming"] = option("hamming", "window shape")
    low_hz: NonNegative = option(20.0, "lower edge of the first band")
    high_hz: float = option(0.0, "upper edge of the last band; zero or negative counts down from Nyquist")
    use_energy: bool = option(False, "put the log energy of the frame before the bands, as the paper does")
    preemphasis: Fraction = option(0.97, "pre-emphasis coefficient")
    snip_edges: bool = option(True, "only whole windows; False reflects the signal at its ends")
    dither: NonNegative = option(0.0, "standard deviation of seeded noise, in 16-bit sample units; 0 switches it off")

    def __post_init__(self) -> None:
        """Refuses windows and hops without samples, and bands that do not rise from ``low_hz`` to ``high_hz``."""
        super().__post_init__()
        length, shift = (self.sample_rate_hz * ms / 1000 for ms in (self.frame_length_ms, self.frame_shift_ms))
        if length < 2 or shift < 1:
            raise UserError(
                f"fbank.frame_length_ms={self.frame_length_ms:g} and fbank.frame_shift_ms={self.frame_shift_ms:g} are "
                f"{length:g} and {shift:g} samples at {self.sample_rate_hz} Hz; at least 2 and 1 are needed (usual: 25 "
                "and 10 ms)."
            )
        nyquist = self.sample_rate_hz / 2
        if not self.low_hz < self.highest_hz <= nyquist:
            raise UserError(
                f"fbank.low_hz={self.low_hz:g} and fbank.high_hz={self.high_hz:g} give mel bands from {self.low_hz:g} "
                f"to {self.highest_hz:g} Hz; they must rise and lie between 0 and {nyquist:g} Hz, half of "
                "fbank.sample_rate_hz."
            )

    @property
    def highest_hz(self) -> float:
        """Upper edge of the last band."""
        return self.high_hz if self.high_hz > 0 else self.sample_rate_hz / 2 + self.high_hz

    @property
    def num_features(self) -> int:
        """Values per frame, F."""
        return self.num_mel_bins + int(self.use_energy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(_Checked):
    """Where the shards are and how a training batch is drawn from them."""

    train: str | tuple[str, ...] = option("", "directory of training shards, or a list of several that are joined")
    corpus_weights: tuple[Weight, ...] = option(
        (),
        "a factor for each directory of data.train: 2 draws its speakers twice as often; empty: 1 each. A speaker of "
        "several directories is drawn from each apart, so a batch may hold it once for each",
    )
    shared_speakers: Literal["refuse", "join"] = option(
        "refuse", "speakers with the same name in two directories of data.train: an error (refuse), or one class (join)"
    )
    dev: str = option("", "directory of shards with the utterances of the dev list; empty: no EER during training")
    dev_trials: str = option("", "trial list over the dev shards")
    crop_frames: Positive = option(200, "frames per training example; shorter utterances are repeated")
    batch_size: Positive = option(128, "training examples per step, over all devices and hosts")
    sampling: Literal["utterance", "duration", "speaker"] = option(
        "utterance", "draw every utterance equally often, in proportion to its length, or every speaker equally often"
    )
    speaker_exponent: Exponent | None = option(
        None,
        "a: draw speakers in proportion to (number of utterances, or duration with sampling=duration)^a; 0: all "
        "equally often, 1: in proportion; null: 1, or 0 with sampling=speaker",
    )
    utterances_per_speaker: Positive = option(1, "U: a batch holds batch_size / U speakers with U utterances each")
    num_workers: Count = option(0, "worker processes that read crops; 0 reads in threads of the main process")
    read_threads: Positive = option(
        4, "threads per worker, each reading one batch; use many more where reads are slow, as on object stores"
    )
    original_speed_only: bool = option(False, "skip the copies at other speeds, which count as other speakers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig(_Checked):
    """Noise and reverberation that the training step adds to clean crops; each example draws its own."""

    noise: str = option("", "directory of shards of noises, with the speakers noise, music and speech; empty: no noise")
    rooms: str = option("", "file of rooms from 'mqmha prep room-table'; empty: no reverberation")
    noise_probability: Fraction = option(0.2, "share of examples with a noise")
    music_probability: Fraction = option(0.2, "share of examples with music")
    babble_probability: Fraction = option(0.2, "share of examples with babble, several voices at once")
    reverb_probability: Fraction = option(0.6, "share of examples in a room; the room also reverberates the noise")
    one_at_a_time: bool = option(
        False,
        "at most one of noise, music, babble and room per example, as in offline versions; otherwise independently",
    )
    noise_snr_db: tuple[float, float] = option((0.0, 15.0), "range of the signal-to-noise ratio, of mean powers")
    music_snr_db: tuple[float, float] = option((5.0, 15.0), "range of the ratio of speech to music")
    babble_snr_db: tuple[float, float] = option((13.0, 20.0), "range of the ratio of speech to each babble voice")
    babble_voices: tuple[Positive, Positive] = option((3, 7), "fewest and most voices of the babble")
    context_frames: Count = option(40, "frames before a crop whose echoes reach into it; longer decays are cut")

    def __post_init__(self) -> None:
        """Refuses ranges that fall."""
        super().__post_init__()
        for name in ("noise_snr_db", "music_snr_db", "babble_snr_db", "babble_voices"):
            low, high = getattr(self, name)
            if not low <= high:
                raise UserError(f"augment.{name} must be a range from low to high, but it is [{low:g}, {high:g}].")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig(_Checked):
    """Masks drawn per example inside the training step; a masked value becomes the utterance mean."""

    num_time_masks: Count = option(0, "masks along time per example")
    max_time_mask_frames: Positive = option(10, "longest time mask")
    num_frequency_masks: Count = option(0, "masks along frequency per example")
    max_frequency_mask_bins: Positive = option(8, "widest frequency mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part(_Checked):
    """A part of the network by name; its options are the fields of the class with that name."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def part(name: str, **options: Any) -> Part:
    """``part("mqmha", heads=16)``: short for ``Part(name="mqmha", options={"heads": 16})``."""
    return Part(name=name, options=options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(_Checked):
    """The network from filterbank to embedding."""

    encoder: Part = field(default_factory=lambda: part("resnet34"), metadata={"help": "frames to frames"})
    pooling: Part = field(default_factory=lambda: part("mqmha"), metadata={"help": "frames to one vector"})
    embedding_dim: Positive = option(256, "size of the embedding, E")
    embedding_layers: Literal[1, 2] = option(
        1, "1: a linear layer after the pooling; 2: linear, ReLU, batch normalisation, linear"
    )
    embedding_bias: bool = option(True, "bias of the last linear layer")
    normalize_pooled: bool = option(False, "batch normalisation between pooling and the embedding layers")
    normalize_embedding: bool = option(False, "batch normalisation of the embedding")
    affine_embedding_norm: bool = option(False, "a scale and a bias in the normalisation of the embedding")
    compute_dtype: Literal["float32", "bfloat16", "float64"] = option(
        "float32",
        "type of activations; parameters, statistics, cosines and losses stay float32 (float64, for comparisons, needs "
        "JAX_ENABLE_X64)",
    )
    rematerialize: bool = option(False, "recompute the inside of each block for the gradient, to save memory")
    batch_norm_groups: Positive = option(
        1, "number of groups of the batch that are normalised separately; 1: statistics of the whole batch"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairTerm(_Checked):
    """A loss over the pairs of a batch, with its weight in the sum."""

    name: str
    weight: NonNegative = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(_Checked):
    """The margin softmax over speakers, the inter-topK penalty, and losses over pairs beside them."""

    name: str = option("am", "form of the margin on the target cosine; your own loss: FILE.py:FUNCTION")
    options: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "options of that loss alone"})
    sub_centres: Positive = option(3, "prototypes per speaker, K; the nearest one is used")
    sub_centre_temperature: NonNegative = option(
        0.0, "blend the sub-centres by a softmax of their cosines over this temperature; 0: use the nearest one"
    )
    scale: AboveZero = option(32.0, "s: multiplies all cosines")
    margin: NonNegative = option(0.2, "m: final margin")
    margin_start: Fraction = option(0.0, "fraction of the run at which the margin starts to grow from zero")
    margin_end: Fraction = option(0.0, "fraction of the run at which the margin reaches its final value")
    margin_growth: Literal["linear", "exponential"] = option(
        "linear", "shape of the growth; exponential rises fast and then settles, as in WeSpeaker"
    )
    top_k: Count = option(5, "number of nearest other speakers that are penalised; 0: no penalty")
    penalty: NonNegative = option(0.06, "m': final inter-topK penalty; it grows in proportion to the margin")
    penalised: Literal["nearest", "above_mean"] = option(
        "nearest",
        "who is penalised: the top_k nearest speakers of every example, or all that are nearer than the previous "
        "batch's mean top-k cosine",
    )
    hard_negatives: NonNegative = option(
        0.0, "w: other speakers above the target with its margin move up by w (cosine + 1); 0: off"
    )
    label_smoothing: Fraction = option(0.0, "share of the label that is spread over all speakers")
    weight: NonNegative = option(1.0, "weight of this loss in the sum with the losses over pairs")
    diagnostics: bool = option(
        False,
        "also log how often confusable speakers and sub-centres recur, and embedding lengths; costs a little time",
    )
    pairs: tuple[PairTerm, ...] = option((), "losses over the pairs of a batch, each with a weight")

    def __post_init__(self) -> None:
        """Refuses a margin that stops growing before it starts."""
        super().__post_init__()
        if self.margin_start > self.margin_end:
            raise UserError(
                f"loss.margin_start={self.margin_start:g} comes after loss.margin_end={self.margin_end:g}; the margin "
                "grows between these fractions of the run. Give a later margin_end."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(_Checked):
    """The update rule and the learning rate."""

    name: Literal["sgd", "adamw"] = option("sgd", "update rule")
    learning_rate: NonNegative = option(0.1, "peak learning rate")
    final_learning_rate: NonNegative = option(5e-5, "learning rate of the last step")
    schedule: Literal["exponential", "cosine", "constant", "plateau"] = option(
        "exponential", "decay after the warm-up; plateau lowers the rate when the dev EER stops falling"
    )
    plateau_factor: Fraction = option(0.1, "factor that a plateau multiplies the rate by")
    plateau_patience: Count = option(2, "evaluations without a better dev EER before the rate falls")
    warmup: Fraction = option(0.04, "fraction of the run with a linear warm-up")
    momentum: BelowOne = option(0.9, "SGD's momentum (Nesterov), AdamW's first decay")
    weight_decay: NonNegative = option(1e-4, "decay of kernels and prototypes, not of biases and normalisation")
    rates: Mapping[str, NonNegative] = field(
        default_factory=dict,
        hash=False,  # a dictionary has none, and the options are a static argument of jitted functions
        metadata={"help": "factors of the learning rate by part, e.g. rates.net/encoder=0.1; the longest path wins"},
    )
    frozen: tuple[str, ...] = option((), 'parts that do not learn, e.g. ["net/encoder/block[12]_*"]')
    unfreeze_after: Fraction = option(1.0, "share of the run after which frozen parts learn as well; 1: never")
    max_gradient_norm: NonNegative = option(0.0, "clip the global norm of the gradient; 0: no clipping")
    accumulate: Positive = option(
        1, "number of parts of a batch that pass through the network one after another, to save memory"
    )
    ema: BelowOne = option(
        0.0, "decay of an exponential moving average of the network, which evaluation then uses; 0: none"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(_Checked):
    """Length of the run, checkpoints and logs."""

    steps: Positive = option(10_000, "optimizer steps of the run")
    seed: Count = option(0, "seed of all randomness: initial values, order of the data, crops, masks")
    log_every: Positive = option(50, "steps between lines of the log")
    evaluate_every: Positive = option(1_000, "steps between evaluations of the dev list")
    checkpoint_every: Positive = option(1_000, "steps between checkpoints")
    keep_checkpoints: Positive = option(3, "number of latest checkpoints that stay on disk")
    keep_best: Count = option(1, "number of checkpoints with the lowest dev EER that also stay on disk")
    max_skipped_in_row: Positive = option(20, "stop after this many steps in a row that are not finite")
    stall_seconds: NonNegative = option(30.0, "report a longer wait for data, in seconds; 0: none")
    profile_first: Count = option(0, "first step of a profile for TensorBoard; 0: none")
    profile_last: Count = option(0, "last step of the profile")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig(_Checked):
    """How devices share the work. It changes results only by rounding."""

    data: MeshSize = option(-1, "devices that split the batch in the head; -1: the devices that mesh.model leaves")
    model: MeshSize = option(1, "devices that split the classes of the head; -1: the devices that mesh.data leaves")
    class_chunk: Count = option(0, "number of classes whose cosines are in memory at once; 0: all")

    def __post_init__(self) -> None:
        """Refuses an axis without devices."""
        super().__post_init__()
        for name in ("data", "model"):
            if getattr(self, name) == 0:
                raise UserError(
                    f"mesh.{name}=0 gives the work to no device. Give a number above 0, or -1 for the devices that the "
                    "other axis leaves."
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartConfig(_Checked):
    """Where the parameters come from: random, or from an earlier run, as in fine-tuning."""

    run: str = option("", "work directory of the run to start from; empty: random parameters")
    step: int | None = option(None, "step of its checkpoint; null: the newest")
    head: Literal["match", "means", "fresh"] = option(
        "match",
        "prototypes: those of the earlier run by speaker name, each speaker's mean embedding, or random ones",
    )
    batch_norm: Literal["update", "keep"] = option(
        "update", "normalise with the statistics of each batch, or with those of the earlier run, unchanged"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_Checked):
    """One experiment."""

    fbank: FbankSpec = field(default_factory=FbankSpec)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    start: StartConfig = field(default_factory=StartConfig)
