"""The directory that ``mqmha export`` writes for WeSpeaker names what builds the network there."""

import json
import re

import jax
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from mqmha_jax.cli import main
from mqmha_jax.config import Config, FbankSpec, ModelConfig, part
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.interop import FAMILIES, export_model, import_model, read_checkpoint_file
from mqmha_jax.interop.import_run import load_file
from mqmha_jax.models import build_speaker_net
from mqmha_jax.models.registry import options_of
from mqmha_jax.runs.network_run import write_network_run
from tests.support.foreign import SMALL_XVECTOR, random_variables

TSTP = part("tstp")
MQMHASTP = part("mqmha", heads=8, queries=2, layers=2, bottleneck=64, channel_wise=True)
ASP = part("asp", bottleneck=128, channel_wise=True, activation="relu_norm", variance_floor=1e-5)
ECAPA = {"summed_inputs": False, "final_channels": 1536}
RES2NET = {"width": 4, "stage_sizes": [1, 2, 1, 1]}


def model(encoder, pooling, **options):
    return ModelConfig(encoder=encoder, pooling=pooling, **{"embedding_dim": 6, **options})


def pooled(func, num_features=16):
    """The arguments that most constructors take."""
    return {"feat_dim": num_features, "embed_dim": 6, "pooling_func": func}


ONE, TWO = {"two_emb_layer": False}, {"two_emb_layer": True}
# Network, mel bands, WeSpeaker's model and its arguments. Each loads in WeSpeaker (wespeaker-unofficial 0.0.2).
BUILT = {
    "resnet": (model(part("resnet18"), MQMHASTP), 16, "ResNet18", pooled("MQMHASTP") | ONE),
    "ecapa": (
        model(
            part("ecapa512", channels=16, **ECAPA),
            TSTP,
            normalize_pooled=True,
            normalize_embedding=True,
            affine_embedding_norm=True,
        ),
        16,
        "ECAPA_TDNN",
        pooled("TSTP") | {"emb_bn": True, "channels": 16, "global_context_att": False},
    ),
    "xvector": (SMALL_XVECTOR, 16, "XVEC", pooled("TSTP") | {"hid_dim": 8, "stats_dim": 10}),
    "campplus": (
        model(
            part("campplus", first_channels=8, growth=4, bottleneck_factor=2),
            TSTP,
            embedding_bias=False,
            normalize_embedding=True,
        ),
        16,
        "CAMPPlus",
        pooled("TSTP") | {"growth_rate": 4, "bn_size": 2, "init_channels": 8},
    ),
    "res2net": (
        model(part("res2net", **RES2NET), TSTP, embedding_layers=2),
        16,
        "Res2Net",
        pooled("TSTP") | TWO | {"m_channels": 4, "num_blocks": [1, 2, 1, 1]},
    ),
    "eres2net": (
        model(part("eres2net", **RES2NET, scale=3), part("tap")),
        16,
        "ERes2Net",
        pooled("TAP")
        | ONE
        | {"m_channels": 4, "num_blocks": [1, 2, 1, 1], "expansion": 2, "baseWidth": 32, "scale": 3},
    ),
    "simam": (
        model(part("simam_resnet34", width=4), ASP),
        16,
        "SimAM_ResNet34_ASP",
        {"in_planes": 4, "embed_dim": 6, "acoustic_dim": 16},
    ),
    "repvgg": (model(part("repvgg_a1", folded=True), TSTP), 16, "REPVGG_A1", pooled("TSTP") | {"deploy": True}),
    "redimnet": (
        model(
            part("redimnet_b1", channels=4, stages=[[1, 1, 1, None], [2, 1, 2, 4]], group_divisor=2, final_channels=8),
            part("ccasp", context=False),
            embedding_layers=2,
        ),
        16,
        "ReDimNet",
        {
            **pooled("ASTP"),
            **TWO,
            "C": 4,
            "block_1d_type": "conv+att",
            "block_2d_type": "convnext_like",
            "stages_setup": [[1, 1, 1, [[3, 3]], None], [2, 1, 2, [[3, 3]], 4]],
            "group_divisor": 2,
            "out_channels": 8,
            "global_context_att": False,
        },
    ),
}


def export(folder, config, num_features):
    """Exports a run with random variables; returns what the command says and the written configuration."""
    variables = random_variables(config, num_features)
    whole = Config(model=config, fbank=FbankSpec(num_mel_bins=num_features))
    write_network_run(folder / "run", whole, {}, {"batch_stats": {}, **variables}, head={})
    result = CliRunner().invoke(main, ["export", str(folder / "run"), "--output", str(folder / "out")])
    assert result.exit_code == 0, result.output
    return variables, result.output, yaml.safe_load((folder / "out" / "config.yaml").read_text())


# WeSpeaker's models by name: their family, and the encoder, the pooling and the mel bands of the same network here.
WITHOUT_CONTEXT, CONTEXT = part("ccasp", context=False), part("ccasp", unbiased_context=True)
NAMED = {
    **{f"ResNet{size}": ("resnet", part(f"resnet{size}"), TSTP, 80) for size in (18, 34, 50, 101, 152, 221, 293)},
    "ECAPA_TDNN_c512": ("ecapa", part("ecapa512", **ECAPA), WITHOUT_CONTEXT, 80),
    "ECAPA_TDNN_c1024": ("ecapa", part("ecapa1024", **ECAPA), WITHOUT_CONTEXT, 80),
    "ECAPA_TDNN_GLOB_c512": ("ecapa", part("ecapa512", **ECAPA), CONTEXT, 80),
    "ECAPA_TDNN_GLOB_c1024": ("ecapa", part("ecapa1024", **ECAPA), CONTEXT, 80),
    "Res2Net34_Base": ("res2net", part("res2net"), TSTP, 80),
    "Res2Net34_Large": ("res2net", part("res2net", width=64), TSTP, 80),
    "ERes2Net34_Base": ("res2net", part("eres2net"), TSTP, 80),
    "ERes2Net34_Large": ("res2net", part("eres2net_large"), TSTP, 80),
    "ERes2Net34_aug": ("res2net", part("eres2net_aug"), TSTP, 80),
    "SimAM_ResNet34_ASP": ("simam", part("simam_resnet34"), ASP, 80),
    "SimAM_ResNet100_ASP": ("simam", part("simam_resnet100"), ASP, 80),
    "REPVGG_TINY_A0": ("repvgg", part("repvgg_tiny_a0"), TSTP, 80),
    **{
        f"REPVGG_{size}": ("repvgg", part(f"repvgg_{size.lower()}"), TSTP, 80)
        for size in ("A0", "A1", "A2", "B0", "B1")
    },
    "REPVGG_B2": ("repvgg", part("repvgg_b0", width_multipliers=[2.5, 2.5, 2.5, 5.0]), TSTP, 80),
    "REPVGG_B3": ("repvgg", part("repvgg_b0", width_multipliers=[3.0, 3.0, 3.0, 5.0]), TSTP, 80),
    "ReDimNetB0": ("redimnet", part("redimnet_b0"), CONTEXT, 60),
    **{f"ReDimNetB{size}": ("redimnet", part(f"redimnet_b{size}"), CONTEXT, 72) for size in range(1, 7)},
}


@pytest.mark.parametrize("name", NAMED)
def test_networks_of_the_usual_sizes_have_wespeakers_names(name):
    family, encoder, pooling, num_features = NAMED[name]
    net = build_speaker_net(model(encoder, pooling))
    encoder, pooling = part(encoder.name, **options_of(net.encoder)), part(pooling.name, **options_of(net.pooling))
    built = FAMILIES[f"wespeaker_{family}"].constructor(model(encoder, pooling), num_features)
    assert built.model == name


@pytest.mark.parametrize("name", BUILT)
def test_the_configuration_builds_the_network_in_wespeaker_and_imports_as_the_same(name, tmp_path):
    config, num_features, expected, arguments = BUILT[name]
    variables, said, written = export(tmp_path, config, num_features)
    assert (written["model"], written["model_args"]) == (expected, arguments)
    assert "cannot build" not in said
    again = load_file(tmp_path / "out" / "avg_model.pt")
    assert build_speaker_net(again.config.model) == build_speaker_net(config)
    assert again.config.fbank == FbankSpec(num_mel_bins=num_features)
    jax.tree.map(np.testing.assert_array_equal, again.variables, variables)


def test_an_exported_directory_embeds_like_the_run(tmp_path):
    export(tmp_path, SMALL_XVECTOR, 16)
    waveform = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    ours, theirs = (SpeakerEncoder.from_pretrained(tmp_path / name).embed(waveform).vectors for name in ("run", "out"))
    np.testing.assert_array_equal(ours, theirs)


def test_wespeaker_gets_only_options_that_its_filterbank_takes(tmp_path):
    """Its ``compute_fbank`` has no window, and ends in a TypeError if it is given one."""
    _, _, written = export(tmp_path, SMALL_XVECTOR, 16)
    assert written["dataset_args"]["fbank_args"].keys() == {"num_mel_bins", "frame_length", "frame_shift", "dither"}


# Of the files below reference/encoders, whose classes WeSpeaker finds by their names.
REFERENCES = (
    "wespeaker_campplus",
    "wespeaker_ecapa",
    "wespeaker_ecapa_glob",
    "wespeaker_eres2net",
    "wespeaker_eres2net_aug",
    "wespeaker_redimnet_basic_resnet",
    "wespeaker_redimnet_convnext_like",
    "wespeaker_res2net",
    "wespeaker_simam_resnet34_asp",
    "wespeaker_xvec",
)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_network_of_wespeaker_is_built_as_it_was_there(name, reference_dir):
    theirs = json.loads(np.load(reference_dir / "encoders" / f"{name}.npz", allow_pickle=False)["config"].item())
    num_features = theirs.get("feat_dim") or theirs["acoustic_dim"]
    state = read_checkpoint_file(reference_dir / "encoders" / f"{name}.pt")
    found = import_model(state, family="wespeaker_campplus" if "camp" in name else None, num_features=num_features)
    exported = export_model(found.config, found.variables, num_features=num_features)
    built = FAMILIES[exported.family].constructor(exported.config, num_features)
    assert built.model == theirs.pop("class")
    assert {argument: built.arguments[argument] for argument in theirs if argument in built.arguments} == {
        argument: value for argument, value in theirs.items() if argument != "emb_bn"
    }


@pytest.mark.parametrize(
    ("config", "num_features", "reason"),
    [
        (model(part("resnet18", width=4), TSTP), 16, r"its models ResNet18, ResNet34, .* all have other widths or num"),
        (model(part("resnet18"), part("mqmha")), 16, r"no argument changes its MQMHASTP \(heads: 16 here, 8 there; q"),
        (model(part("resnet18"), part("ccasp", bottleneck=3, context=False)), 16, r"its ASTP \(bottleneck: 3 here, 12"),
        (model(part("resnet18"), TSTP), 20, "a multiple of 8, and this network has 20"),
        (model(part("xvector"), TSTP), 16, "its XVEC always has two embedding layers, and this network has one"),
        (
            model(part("xvector", kernel_sizes=[3, 3, 3, 1, 1]), TSTP, embedding_layers=2),
            16,
            r"its XVEC has other sizes \(kernel_sizes: \(3, 3, 3, 1, 1\) here, \(5, 3, 3, 1, 1\) there\)",
        ),
        (model(part("simam_resnet34", width=4, stage_sizes=[1, 1, 1, 1]), ASP), 16, "SimAM_ResNet34_ASP, SimAM_ResNet"),
    ],
)
def test_what_is_missing_where_wespeaker_cannot_build_the_network_is_a_note(config, num_features, reason, tmp_path):
    variables, said, written = export(tmp_path, config, num_features)
    assert "model" not in written
    assert written["model_args"] == {"feat_dim": num_features, "embed_dim": 6}
    (note,) = (line for line in said.splitlines() if "cannot build" in line)
    assert note.startswith("Note: WeSpeaker cannot build this network: ")
    assert "config.yaml has the features but no model, and avg_model.pt has the tensors" in note
    assert re.search(reason, note), note
    jax.tree.map(np.testing.assert_array_equal, load_file(tmp_path / "out" / "avg_model.pt").variables, variables)
