"""Foreign checkpoints become models with the same embeddings; what does not fit is named."""

import functools

import jax
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.interop import FAMILIES, export_model, import_model, network_tensors, read_checkpoint_file
from mqmha_jax.interop.toolkit_fbanks import THREE_D_SPEAKER, WESPEAKER
from mqmha_jax.models import build_speaker_net
from tests.support.paths import REFERENCE
from tests.support.wespeaker_network import CONFIG, NUM_FEATURES, draw_fbank, draw_network


def test_a_resnet_with_mqmha_embeds_as_wespeaker_does():
    """With padding, too. The numbers are by make_wespeaker_resnet.py beside them."""
    expected = np.load(REFERENCE / "wespeaker_resnet.npz", allow_pickle=False)["embedding"]
    network, fbank = draw_network(), draw_fbank()
    tensors = export_model(CONFIG, network, num_features=NUM_FEATURES).tensors
    model = import_model(tensors, num_features=NUM_FEATURES)
    padded = np.pad(fbank, [(0, 0), (0, 19), (0, 0)], constant_values=1e6)
    mask = np.broadcast_to(np.arange(padded.shape[1]) < fbank.shape[1], padded.shape[:2])
    for config, variables in ((CONFIG, network), (model.config, model.variables)):
        embed = jax.jit(functools.partial(build_speaker_net(config).apply, train=False))
        np.testing.assert_allclose(embed(variables, padded, mask), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["resnet34_tstp", "resnet50_tstp", "resnet18_mqmha"])
def test_embeddings_equal_wespeakers(name, reference_dir):
    reference = np.load(reference_dir / "wespeaker_resnets.npz", allow_pickle=False)
    model = import_model(read_checkpoint_file(reference_dir / f"wespeaker_{name}.pt"))
    net = build_speaker_net(model.config)
    fbank = reference[f"{name}/fbank"]
    embed = jax.jit(lambda fbank, mask: net.apply(model.variables, fbank, mask, train=False))
    embedding = embed(fbank, np.ones(fbank.shape[:2], bool))
    expected = reference[f"{name}/embedding"]
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# Files below reference/encoders and their families.
REFERENCES = {
    "3dspeaker_campplus": "3dspeaker_campplus",
    "wespeaker_campplus": "wespeaker_campplus",
    "wespeaker_ecapa": "wespeaker_ecapa",
    "wespeaker_ecapa_glob": "wespeaker_ecapa",
    "wespeaker_xvec": "wespeaker_xvector",
    "wespeaker_res2net": "wespeaker_res2net",
    "wespeaker_eres2net": "wespeaker_res2net",
    "wespeaker_eres2net_aug": "wespeaker_res2net",
    "3dspeaker_eres2netv2": "3dspeaker_eres2netv2",
    "wespeaker_simam_resnet34_asp": "wespeaker_simam",
    "wespeaker_repvgg": "wespeaker_repvgg",
    "wespeaker_redimnet_basic_resnet": "wespeaker_redimnet",
    "wespeaker_redimnet_convnext_like": "wespeaker_redimnet",
}


@pytest.mark.parametrize("name", REFERENCES)
def test_embeddings_equal_those_of_the_toolkit_with_and_without_padding(name, reference_dir):
    reference = np.load(reference_dir / "encoders" / f"{name}.npz", allow_pickle=False)
    lengths = (48, 97, 200)
    num_features = reference["input/48"].shape[-1]
    state = read_checkpoint_file(reference_dir / "encoders" / f"{name}.pt")
    model = import_model(state, num_features=num_features, family=REFERENCES[name])
    net = build_speaker_net(model.config)
    embed = jax.jit(lambda fbank, mask: net.apply(model.variables, fbank, mask, train=False))
    # Compiling is slow: one program for all lengths. The longest has no padding, the others more than 13 frames of it.
    padded = np.full((len(lengths), 2, max(lengths), num_features), 1e6, np.float32)
    for i, length in enumerate(lengths):
        padded[i, :, :length] = reference[f"input/{length}"]
    mask = np.arange(max(lengths))[None] < np.repeat(lengths, 2)[:, None]
    embedding = embed(padded.reshape(-1, *padded.shape[2:]), mask)
    expected = np.concatenate([reference[f"embedding/{length}"] for length in lengths])
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# These toolkits store a network under the same names.
ALIKE = {"3dspeaker_campplus": {"3dspeaker_campplus", "wespeaker_campplus"}}
ALIKE["wespeaker_campplus"] = ALIKE["3dspeaker_campplus"]


@pytest.mark.parametrize("name", FAMILIES)
def test_features_of_a_toolkit_have_its_window(name):
    windows = {"wespeaker": WESPEAKER.window, "3dspeaker": THREE_D_SPEAKER.window, "speechbrain": "hamming"}
    assert FAMILIES[name].fbank.window == windows[name.partition("_")[0]]


def test_every_reference_is_recognised_as_only_its_family(reference_dir):
    paths = sorted((reference_dir / "encoders").glob("*.pt"))
    assert {path.stem for path in paths} >= REFERENCES.keys()
    for path in paths:
        names = list(read_checkpoint_file(path))
        found = {name for name, family in FAMILIES.items() if family.recognize(names)}
        expected = {REFERENCES[path.stem]} if path.stem in REFERENCES else set()
        assert found == ALIKE.get(path.stem, expected), path


@pytest.fixture(scope="module")
def mqmha_state(reference_dir):
    return read_checkpoint_file(reference_dir / "wespeaker_resnet18_mqmha.pt")


def test_heads_counters_and_wrappers_are_left_out(mqmha_state):
    beside = {"projection.weight": np.zeros((9, 32), np.float32), "bn1.num_batches_tracked": np.zeros((), np.int64)}
    for prefix in ("", "module.", "module.speaker_model.", "speaker_model."):
        state = {prefix + name: value for name, value in {**mqmha_state, **beside}.items()}
        for content in (state, {"model": state, "epoch": 3}, {"state_dict": state, "optimizer": {"state": [1.0]}}):
            tensors = network_tensors(content, "it")
            assert tensors.keys() == mqmha_state.keys()
    outside = {f"module.{name}": value for name, value in beside.items()}
    inside = {f"module.speaker_model.{name}": value for name, value in mqmha_state.items()}
    assert network_tensors({**inside, **outside}, "it").keys() == mqmha_state.keys()


def test_low_precision_becomes_float32(mqmha_state):
    model = import_model({name: value.astype(np.float16) for name, value in mqmha_state.items()})
    assert {leaf.dtype for leaf in jax.tree.leaves(model.variables)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": None}, "it lacks 'conv1.weight'"),
        ({"layer2.0.bn1.running_var": None}, "it lacks 'layer2.0.bn1.running_var'"),
        ({"pool.n_query.1.heads_att_trans.3.att_0.bias": None}, "it lacks 'pool.n_query.1.heads_att_trans.3.att_0"),
        ({"seg_9.weight": np.zeros((32, 32))}, "have no place in a WeSpeaker ResNet like this one: seg_9.weight"),
        ({"layer1.0.bn1.weight": np.zeros(9)}, r"'layer1.0.bn1.weight' gives .*/scale the shape \(9,\).* imply \(8,\)"),
        ({"seg_1.weight": np.zeros(32)}, r"'seg_1.weight' has the shape \(32,\); .* has 2 axes"),
    ],
)
def test_tensors_that_do_not_fit_are_named(mqmha_state, change, message):
    state = {name: value for name, value in {**mqmha_state, **change}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        import_model(state)


def test_a_transposed_tensor_is_named(mqmha_state):
    state = {**mqmha_state, "layer2.0.conv1.weight": mqmha_state["layer2.0.conv1.weight"].swapaxes(0, 1)}
    with pytest.raises(UserError, match=r"'layer2.0.conv1.weight' gives .*/conv/kernel the shape"):
        import_model(state)


def test_values_that_are_not_finite_are_named(mqmha_state):
    broken = mqmha_state["bn1.running_var"].copy()
    broken[2] = np.nan
    with pytest.raises(UserError, match=r"model.pt: the tensor 'bn1.running_var' holds 1 value, NaN or infinite"):
        network_tensors({**mqmha_state, "bn1.running_var": broken}, "model.pt")


def test_an_unknown_family_is_refused(mqmha_state):
    with pytest.raises(UserError, match=r"belongs to no known family \(.*wespeaker_resnet.*\).*fc.weight"):
        import_model({"fc.weight": np.zeros((2, 2))})
    with pytest.raises(UserError, match=r"Did you mean 'wespeaker_resnet'"):
        import_model(mqmha_state, family="wespeaker_resnets")
    with pytest.raises(UserError, match=r"not a known WeSpeaker ResNet, or it is incomplete: it lacks 'conv1.weight'"):
        import_model({"fc.weight": np.zeros((2, 2))}, family="wespeaker_resnet")


def test_a_wrong_number_of_features_is_noticed(reference_dir):
    state = read_checkpoint_file(reference_dir / "wespeaker_resnet34_tstp.pt")
    with pytest.raises(UserError, match="another number of mel bands"):
        import_model(state, num_features=40)
