"""An export under another toolkit's names imports again as the same network."""

import dataclasses
import re
import zipfile

import jax
import numpy as np
import pytest

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.errors import UserError
from mqmha_jax.interop import export_model, import_model, read_checkpoint_file, read_torch_file
from mqmha_jax.interop.torch_writer import write_torch_file
from tests.support.foreign import SMALL_XVECTOR, random_variables
from tests.support.small_nets import SMALL_RES2NET

NUM_FEATURES = 16
RESNET = part("resnet18", stage_sizes=[1, 1, 1, 1], width=4)
CAMPPLUS = ModelConfig(
    encoder=part("campplus", width=4, first_channels=8, growth=4, bottleneck_factor=2, block_sizes=[1, 2, 1]),
    pooling=part("tstp"),
    embedding_dim=6,
    embedding_bias=False,
    normalize_embedding=True,
)
THREE_D_SPEAKER_CAMPPLUS = dataclasses.replace(CAMPPLUS, pooling=part("tstp", variance_offset=0.0))
MODELS = {
    "wespeaker_resnet": ModelConfig(
        encoder=RESNET, pooling=part("mqmha", heads=4, queries=2, layers=2, bottleneck=3), embedding_dim=6
    ),
    "wespeaker_ecapa": ModelConfig(
        encoder=part("ecapa512", channels=16, final_channels=8, scale=4, bottleneck=3, summed_inputs=False),
        pooling=part("ccasp", bottleneck=5, unbiased_context=True),
        embedding_dim=6,
        normalize_pooled=True,
        normalize_embedding=True,
        affine_embedding_norm=True,
    ),
    "speechbrain_ecapa": ModelConfig(
        encoder=part(
            "ecapa512",
            channels=16,
            final_channels=8,
            scale=4,
            bottleneck=3,
            summed_inputs=False,
            normalize_joined=True,
            edges="reflected",
        ),
        pooling=part("ccasp", bottleneck=5, activation="relu_norm_tanh", variance_floor=1e-12),
        embedding_dim=6,
        normalize_pooled=True,
    ),
    "wespeaker_xvector": SMALL_XVECTOR,
    "wespeaker_campplus": CAMPPLUS,
    "wespeaker_res2net": ModelConfig(
        encoder=part("eres2net", **SMALL_RES2NET), pooling=part("ccasp", bottleneck=3, context=False), embedding_dim=6
    ),
    "3dspeaker_eres2netv2": ModelConfig(
        encoder=part("eres2netv2", **SMALL_RES2NET), pooling=part("tstp"), embedding_dim=6
    ),
}


@pytest.mark.parametrize("family", MODELS)
def test_a_round_trip_returns_the_same_network(family, tmp_path):
    variables = random_variables(MODELS[family], NUM_FEATURES)
    toolkit = family.split("_")[0]
    exported = export_model(MODELS[family], variables, num_features=NUM_FEATURES, toolkit=toolkit)
    assert exported.family == family
    write_torch_file(tmp_path / "avg_model.pt", exported.tensors)
    model = import_model(read_checkpoint_file(tmp_path / "avg_model.pt"), family=family, num_features=NUM_FEATURES)
    jax.tree.map(np.testing.assert_array_equal, model.variables, variables)


@pytest.mark.parametrize(
    ("encoder", "pooling", "toolkit", "message"),
    [
        ("eres2netv2", "tstp", "wespeaker", "'layer3_ds.weight' makes it an ERes2NetV2, which WeSpeaker lacks"),
        ("eres2net", "tstp", "3dspeaker", "3D-Speaker ERes2NetV2, or it is incomplete: it lacks 'layer3_ds.weight'"),
        ("res2net", "tstp", "3dspeaker", "3D-Speaker ERes2NetV2, or it is incomplete: it lacks 'layer3_ds.weight'"),
        ("eres2netv2", "mqmha", "3dspeaker", "has statistics pooling, tap or tstp, and no attention"),
    ],
)
def test_a_network_with_the_names_of_a_toolkit_that_lacks_it_is_refused(encoder, pooling, toolkit, message):
    config = ModelConfig(encoder=part(encoder, **SMALL_RES2NET), pooling=part(pooling), embedding_dim=6)
    with pytest.raises(UserError, match=message):
        export_model(config, random_variables(config, NUM_FEATURES), num_features=NUM_FEATURES, toolkit=toolkit)


def centred_variables(config: ModelConfig) -> dict:
    """Parameters around zero: positive ones let the frames grow from layer to layer, and hide a small constant."""
    variables = random_variables(config, NUM_FEATURES)
    return {**variables, "params": jax.tree.map(lambda leaf: leaf - 0.55, variables["params"])}


def test_another_constant_below_the_square_root_of_the_pooling_is_a_remark():
    """WeSpeaker adds 1e-7 to the variance and 3D-Speaker nothing; both store the same tensors."""
    variables = centred_variables(THREE_D_SPEAKER_CAMPPLUS)
    exported = export_model(THREE_D_SPEAKER_CAMPPLUS, variables, num_features=NUM_FEATURES)
    exact = export_model(THREE_D_SPEAKER_CAMPPLUS, variables, num_features=NUM_FEATURES, toolkit="3dspeaker")
    assert exact.remarks == ()
    jax.tree.map(np.testing.assert_array_equal, exported.tensors, exact.tensors)
    (remark,) = exported.remarks
    found = re.fullmatch(
        r"pooling\.variance_offset: 0\.0 here, 1e-07 there; this changes embeddings of random frames by up to "
        r"(\S+) of their length\.",
        remark,
    )
    assert found, remark
    assert 1e-5 < float(found[1]) < 1e-3


def test_the_scale_of_initial_scorers_does_not_prevent_an_export():
    config = ModelConfig(
        encoder=RESNET,
        pooling=part("mqmha", heads=4, queries=2, layers=2, bottleneck=3, scorer_scale=0.1),
        embedding_dim=6,
    )
    exported = export_model(config, random_variables(config, NUM_FEATURES), num_features=NUM_FEATURES)
    assert (exported.family, exported.remarks) == ("wespeaker_resnet", ())


def test_a_constant_that_changes_embeddings_is_refused():
    config = dataclasses.replace(CAMPPLUS, pooling=part("tstp", variance_offset=10.0))
    message = r"variance_offset: 10\.0 here, 1e-07 there; this changes embeddings .* by up to \S+ of .*safetensors"
    with pytest.raises(UserError, match=message):
        export_model(config, centred_variables(config), num_features=NUM_FEATURES)


def test_a_foreign_network_is_written_as_it_was_read(reference_dir):
    files = {
        "wespeaker_resnet18_mqmha": 80,
        "encoders/wespeaker_ecapa_glob": 80,
        "encoders/wespeaker_xvec": 80,
        "encoders/wespeaker_campplus": 80,
        "encoders/wespeaker_eres2net_aug": 80,
        "encoders/wespeaker_simam_resnet34_asp": 80,
        "encoders/wespeaker_repvgg": 80,
        "encoders/wespeaker_redimnet_basic_resnet": 72,
    }
    without_effect = {"pool.linear2.bias", "pooling.attention.3.bias", "backbone.inputs_weights.0"}
    for name, num_features in files.items():
        state = read_checkpoint_file(reference_dir / f"{name}.pt")
        family = "wespeaker_campplus" if "campplus" in name else None
        model = import_model(state, family=family, num_features=num_features)
        exported = export_model(model.config, model.variables, num_features=num_features)
        assert exported.tensors.keys() == state.keys()
        for key, value in exported.tensors.items():
            cancels = key in without_effect or (key.startswith("pool.n_query") and key.endswith("bias"))
            assert np.array_equal(value, state[key]) or (cancels and not value.any()), f"{name}: {key}"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder": part("tdnn", channels=4, final_channels=4)}, "no place in a WeSpeaker XVEC .*: frame_1.bn.bias"),
        ({"encoder": RESNET, "pooling": part("tstp", unbiased=False)}, "pooling.unbiased: False here, True there"),
        ({"encoder": RESNET, "pooling": part("mha", heads=4)}, r"SimAM-ResNet: Its attention has 1 .*safetensors"),
        (
            {"encoder": RESNET, "pooling": part("ccasp", heads=4, bottleneck=5)},
            "WeSpeaker ResNet: Its attention has 1 queries or heads where this network has 4",
        ),
        ({"encoder": RESNET, "normalize_pooled": True}, "it has nothing like pooled_norm/"),
    ],
)
def test_a_network_that_wespeaker_lacks_is_refused(config, message):
    config = ModelConfig(**{"pooling": part("tstp"), "embedding_dim": 6, **config})
    with pytest.raises(UserError, match=message):
        export_model(config, random_variables(config, NUM_FEATURES), num_features=NUM_FEATURES)


def test_the_written_file_holds_what_torch_expects(tmp_path):
    tensors = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([7])}
    write_torch_file(tmp_path / "model.pt", tensors)
    read = read_torch_file(tmp_path / "model.pt")
    assert list(read) == list(tensors)
    jax.tree.map(np.testing.assert_array_equal, read, tensors)
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        assert archive.namelist()[0] == "archive/data.pkl"
        assert archive.read("archive/data/0") == tensors["a.weight"].tobytes()
