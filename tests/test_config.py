"""Configurations: loading, overrides, the sentences for mistakes, and that every shipped experiment resolves."""

import inspect
import re
from pathlib import Path

import jax
import pytest

from mqmha_jax.config import Config, LossConfig, ModelConfig, OptimizerConfig, PairTerm, TrainConfig, part
from mqmha_jax.config_io import differences, from_dict, load_config, options, to_dict, with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.losses import build_loss
from mqmha_jax.models.speaker_net import build_speaker_net
from tests.support.paths import ROOT

CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.py") if not path.stem.startswith("_"))


DEEP = ("resnet221", "resnet293")  # tracing them takes long


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_survives_json(path: Path) -> None:
    config = load_config(path)
    assert from_dict(to_dict(config)) == config
    assert path.stem in (text := path.read_text()) or path.stem in ("demo", "laptop"), "the docstring has the command"
    assert "Ours:" in text or path.stem == "demo"
    if path.stem.endswith("_lm"):
        base = load_config(path.with_stem(path.stem.removesuffix("_lm")))
        assert (config.model, config.fbank) == (base.model, base.fbank)
        assert config.loss.sub_centres == base.loss.sub_centres  # prototypes are kept
        assert config.data.original_speed_only
        assert config.start.run


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow) if any(name in path.stem for name in DEEP) else path
        for path in CONFIGS
        if not path.stem.endswith("_lm")  # the same networks
    ],
    ids=lambda path: path.stem,
)
def test_every_shipped_config_builds(path: Path) -> None:
    config = load_config(path)
    net = build_speaker_net(config.model)
    fbank = jax.ShapeDtypeStruct((2, config.data.crop_frames, config.fbank.num_features), "float32")
    mask = jax.ShapeDtypeStruct(fbank.shape[:2], "bool")
    key = jax.random.key(0)
    embedding, _ = jax.eval_shape(lambda x, m: net.init_with_output(key, x, m, train=False), fbank, mask)
    assert embedding.shape == (2, config.model.embedding_dim)
    build_loss(config.loss, num_speakers=100, embedding_dim=config.model.embedding_dim)


@pytest.mark.parametrize("text", ["2024", "-1.50", "1e5", "true", "NaN"])
def test_a_path_may_look_like_a_number(text: str) -> None:
    names = ["data.train", "data.dev", "data.dev_trials", "augment.noise", "start.run"]
    values = to_dict(with_overrides(Config(), [f"{name}={text}" for name in names]))
    for section, option in (name.split(".") for name in names):
        assert values[section][option] == text


def test_numbers_and_lists_stay_what_they_are() -> None:
    config = with_overrides(Config(), ['data.train=["2024", "b"]', "start.step=12", "model.embedding_layers=1"])
    assert config.data.train == ("2024", "b")
    assert (config.start.step, config.model.embedding_layers) == (12, 1)
    assert with_overrides(Config(), ['data.dev="2024"']).data.dev == "2024"
    for override in ("data.dev=null", "data.dev=[1]", "data.train=[1]", "train.steps=many", "data.sampling=1"):
        with pytest.raises(UserError, match=f"Invalid value for {override.partition('=')[0]}"):
            with_overrides(Config(), [override])


def test_overrides_reach_sections_parts_and_lists() -> None:
    config = with_overrides(
        Config(),
        [
            "train.steps=7",
            "data.train=shards/with spaces",
            "data.sampling=speaker",
            "model.encoder=tdnn",
            "model.encoder.kernel_sizes=[5,3]",
            "model.pooling.heads=2",
            "loss.options.rate=0.5",
            'loss.pairs=[{"name": "ge2e", "weight": 0.5}]',
        ],
    )
    assert config.train.steps == 7
    assert config.loss.options == {"rate": 0.5}
    assert config.loss.pairs == (PairTerm(name="ge2e", weight=0.5),)
    assert config.data.train == "shards/with spaces"
    assert config.data.sampling == "speaker"
    assert config.model.encoder == part("tdnn", kernel_sizes=[5, 3])
    assert config.model.pooling == part("mqmha", heads=2)
    assert config.optimizer == Config().optimizer


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=3", r"Unknown option of train 'stepz'\. Did you mean 'steps'\?"),
        ("trian.steps=3", r"Unknown section 'trian'\. Did you mean 'train'\?"),
        ("train.steps=many", r"train\.steps='many': give an integer"),
        ("train.steps=1.5", r"train\.steps=1\.5: give an integer\.$"),
        (
            "optimizer.frozen=net/encoder",
            r"optimizer\.frozen='net/encoder': give a list, such as 'optimizer\.frozen=\[.net/enc",
        ),
        (
            "optimizer.rates=3",
            r"optimizer.rates=3: give parts with their factors, such as .*rates.net/encoder=",
        ),
        (
            "data.train=[5]",
            r"for data.train=\[5\]: give a directory, or a list of several, such as .* with the quotes\.$",
        ),
        ("data.corpus_weights=2", r"corpus_weights=2: give a list of numbers, such as 'data\.corpus_weights=\[1,3\]'"),
        ("augment.noise_snr_db=[1]", r"augment.noise_snr_db=\[1\]: give a list of two numbers, such as .*=\[0,15\]'"),
        ("data.original_speed_only=maybe", r"data.original_speed_only='maybe': give true or false\.$"),
        ("loss.pairs=ge2e", r"loss.pairs='ge2e': give a list of losses, such as 'loss.pairs=\[{\"name\":\"ge2e\""),
        ("start.step=best", r"start.step='best': give an integer, or null\.$"),
        ("train.steps=0", r"train\.steps=0: input should be greater than 0"),
        ("data.sampling=random", r"data\.sampling='random': input should be 'utterance', 'duration' or 'speaker'"),
        ("optimizer.warmup=1.5", r"optimizer\.warmup=1\.5: input should be less than or equal to 1"),
        ("optimizer.momentum=1", r"optimizer\.momentum=1: input should be less than 1"),
        ("fbank.frame_length_ms=0", r"fbank\.frame_length_ms=0: input should be greater than 0"),
        ("mesh.data=0", r"^mesh\.data=0 gives the work to no device\. Give a number above 0, or -1"),
        ("mesh.model=0", r"^mesh\.model=0 gives the work to no device\. Give a number above 0, or -1"),
        ("train.steps", r"is not an override; write section\.option=value"),
        ("train=3", r"train is a section; name one of its options: steps"),
        ("train.steps.more=3", r"train\.steps has no options of its own"),
    ],
)
def test_a_wrong_override_is_named_with_what_is_valid(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_overrides(Config(), [override])


def test_a_misspelt_argument_in_a_config_file_offers_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from mqmha_jax.config import *\nCONFIG = Config(train=TrainConfig(step=3))\n")
    with pytest.raises(UserError, match=r"mine\.py: Unknown option 'step'\. Did you mean 'steps'\?"):
        load_config(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", "x = 1\n", r"must define CONFIG = Config"),
        ("bad.json", "{", r"bad\.json is not valid JSON"),
        ("list.json", "[]", r"holds a list \[\.\.\.\], not an object"),
        ("other.json", '{"train": {"step": 1}}', r"Unknown option of train 'step'"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / name)


def test_a_missing_file_is_named_with_the_names_that_are_known() -> None:
    known = r"No configuration file nowhere\.py\. .* come with mqmha_jax: demo, finetune, laptop, "
    with pytest.raises(UserError, match=known):
        load_config("nowhere.py")
    with pytest.raises(UserError, match=r"No configuration file elsewhere/laptop\.py"):
        load_config("elsewhere/laptop.py")
    with pytest.raises(UserError, match=r"Unknown configuration 'labtop'\. Did you mean 'laptop'\?"):
        load_config("labtop")


def test_a_ready_configuration_is_known_by_name_unless_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "laptop").mkdir()  # a folder of that name is no configuration
    by_name = load_config("laptop", ["train.steps=3"])
    assert by_name == load_config(ROOT / "configs" / "laptop.py", ["train.steps=3"])
    assert by_name == load_config("configs/laptop.py", ["train.steps=3"]), "as commands in the documentation say"
    (tmp_path / "laptop.py").write_text("from mqmha_jax.config import Config\nCONFIG = Config()\n")
    assert load_config("laptop.py") == Config()


def test_differences_name_the_fields_and_nothing_else() -> None:
    other = with_overrides(Config(), ["train.steps=3", "model.pooling.heads=2"])
    assert differences(Config(), other) == [
        "model.pooling.options.heads: not set -> 2",
        f"train.steps: {TrainConfig().steps} -> 3",
    ]
    assert differences(other, other) == []


def test_every_option_has_a_meaning() -> None:
    assert all(item.help for item in options())
    assert {"train.steps", "loss.top_k", "model.encoder"} <= {item.name for item in options()}


def test_options_of_the_optimizer_can_be_static_arguments_of_jitted_functions() -> None:
    """A dictionary among them would end every evaluation during training."""
    assert hash(OptimizerConfig(rates={"net": 0.1})) == hash(OptimizerConfig(rates={"net": 0.2}))
    assert OptimizerConfig(rates={"net": 0.1}) != OptimizerConfig(rates={"net": 0.2})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.scale=0", r"loss\.scale=0: input should be greater than 0"),
        ("loss.margin_start=0.5", r"loss\.margin_start=0\.5 comes after loss\.margin_end=0; .*Give a later margin_end"),
        ("fbank.low_hz=9000", r"^fbank\.low_hz=9000 and fbank\.high_hz=0 give mel bands from 9000 to 8000 Hz"),
        (
            "augment.noise_snr_db=[15, 0]",
            r"augment\.noise_snr_db must be a range from low to high, .* is \[15, 0\]",
        ),
        ("augment.babble_voices=[7, 3]", r"augment\.babble_voices must be a range from low to high"),
    ],
)
def test_options_that_do_not_go_together_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_overrides(Config(), [override])


def test_a_section_is_checked_where_it_is_built_in_python() -> None:
    """Built as users build it, without the checker of types that the tests install."""
    for section, values, message in [
        (LossConfig, {"scale": 0.0}, "LossConfig: scale must be a number above 0, but it is 0.0"),
        (LossConfig, {"margin": "big"}, "LossConfig: margin must be a number of at least 0, but it is 'big'"),
        (
            TrainConfig,
            {"steps": True},
            "steps must be an integer above 0, but it is True",
        ),
        (OptimizerConfig, {"name": "adam"}, "OptimizerConfig: name must be 'sgd' or 'adamw', but it is 'adam'"),
        (Config, {"train": 3}, "Config: train must be of the class TrainConfig, but it is 3"),
        (Config, {"loss": TrainConfig()}, "Config: loss must be of the class LossConfig, but it is TrainConfig("),
        (ModelConfig, {"encoder": "resnet34"}, "encoder must be of the class Part, but it is 'resnet34'"),
        (OptimizerConfig, {"ema": 1.0}, "ema must be a number of at least 0 and below 1, but it is 1.0"),
    ]:
        with pytest.raises(UserError, match=re.escape(message)):
            inspect.unwrap(section.__init__)(section.__new__(section), **values)


def test_a_nested_value_makes_a_short_message():
    nested: list = []
    for _ in range(100):
        nested = [nested, nested]
    with pytest.raises(UserError, match=r"Invalid value for train.steps=.*: give an integer") as error:
        from_dict({"train": {"steps": nested}})
    assert len(str(error.value)) < 1_000
