"""A WeSpeaker ``config.yaml`` that contradicts its checkpoint or describes what no run can be is refused."""

import pytest
import yaml

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.errors import UserError
from mqmha_jax.interop import export_model
from mqmha_jax.interop.import_run import load_file
from mqmha_jax.interop.torch_writer import write_torch_file
from tests.support.foreign import random_variables

NUM_FEATURES = 16
RESNET = part("resnet18", stage_sizes=[1, 1, 1, 1], width=4)
POOLINGS = {
    "TAP": part("tap"),
    "TSTP": part("tstp"),
    "ASTP": part("ccasp", bottleneck=3, context=False),
    "MQMHASTP": part("mqmha", heads=4, queries=2, layers=2, bottleneck=3),
}


def write_checkpoint(path, pooling, **sections):
    """Writes the tensors of a network with this pooling, and a configuration beside them."""
    model = ModelConfig(encoder=RESNET, pooling=POOLINGS[pooling], embedding_dim=6)
    tensors = export_model(model, random_variables(model, NUM_FEATURES), num_features=NUM_FEATURES).tensors
    write_torch_file(path / "avg_model.pt", tensors)
    fbank = {"fbank_args": {"num_mel_bins": NUM_FEATURES}}
    content = {**sections, "dataset_args": fbank | sections.get("dataset_args", {})}
    (path / "config.yaml").write_text(yaml.safe_dump(content))
    return path / "avg_model.pt"


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_pooling_of_the_configuration_is_that_of_the_tensors(pooling, tmp_path):
    path = write_checkpoint(tmp_path, pooling, model_args={"pooling_func": pooling})
    assert load_file(path).config.model.pooling.name == POOLINGS[pooling].name


@pytest.mark.parametrize(
    ("pooling", "named", "message"),
    [
        ("TAP", "TSDP", "pooling_func is TSDP, a pooling that an import cannot give; it can give TAP, TSTP, ASTP"),
        ("TSTP", "MHASTP", "pooling_func is MHASTP, a pooling that an import cannot give"),
        ("TAP", "TSTP", "pooling_func is TSTP, but the tensors beside it are those of a network with TAP"),
        ("TSTP", "TAP", "pooling_func is TAP, but the tensors beside it are those of a network with TSTP"),
        ("MQMHASTP", "ASTP", "pooling_func is ASTP, but the tensors .* with MQMHASTP"),
        ("TAP", ["TAP"], "pooling_func must be one number or word"),
    ],
)
def test_another_pooling_than_that_of_the_tensors_is_refused(pooling, named, message, tmp_path):
    """The shapes of TAP and TSDP, the mean and the deviation alone, are the same."""
    path = write_checkpoint(tmp_path, pooling, model_args={"pooling_func": named})
    with pytest.raises(UserError, match=message) as error:
        load_file(path)
    assert str(error.value).startswith(f"{tmp_path}/config.yaml")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"cmvn": False}, r"dataset_args\.cmvn is false, .* minus their mean .* \(cmvn must be true\)\. If this file"),
        ({"cmvn": None}, r"dataset_args\.cmvn is false"),
        ({"cmvn_args": {"norm_mean": False}}, r"cmvn_args\.norm_mean is false, .*cmvn_args\.norm_mean must be true"),
        ({"cmvn_args": {"norm_var": True}}, r"cmvn_args\.norm_var is true, .*cmvn_args\.norm_var must be false"),
        ({"frontend": "s3prl"}, r"dataset_args\.frontend is s3prl, but every network here hears a filterbank"),
    ],
)
def test_features_that_no_network_here_hears_are_refused(dataset, message, tmp_path):
    path = write_checkpoint(tmp_path, "TSTP", dataset_args=dataset)
    with pytest.raises(UserError, match=message) as error:
        load_file(path)
    assert str(error.value).startswith(f"{tmp_path}/config.yaml")


@pytest.mark.parametrize(
    "dataset",
    [{}, {"frontend": "fbank", "cmvn": True, "cmvn_args": {"norm_mean": True, "norm_var": False}}, {"cmvn_args": {}}],
)
def test_mean_normalised_filterbanks_are_read(dataset, tmp_path):
    assert load_file(write_checkpoint(tmp_path, "TSTP", dataset_args=dataset)).config.fbank.num_mel_bins == NUM_FEATURES
