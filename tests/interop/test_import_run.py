"""``mqmha import`` turns a foreign checkpoint into a run, and ``mqmha export`` does the reverse."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.numpy import save_file

from mqmha_jax.cli import main
from mqmha_jax.config import Config, FbankSpec, ModelConfig, part
from mqmha_jax.config_io import from_dict, to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.interop import export_model, import_model, read_checkpoint_file
from mqmha_jax.interop.export_run import export_3dspeaker, export_safetensors, export_wespeaker
from mqmha_jax.interop.import_run import import_run, load_file
from mqmha_jax.interop.network_file import write_network_file
from mqmha_jax.interop.torch_writer import write_torch_file
from mqmha_jax.interop.wespeaker_config import read_wespeaker_config
from mqmha_jax.runs.average import average_checkpoints
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.network_run import write_network_run
from mqmha_jax.runs.workdir import read_speakers
from tests.support.foreign import random_variables, small_state, write_small_checkpoint
from tests.support.tiny import write_tiny_shards, write_tiny_trials


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A foreign checkpoint and the run that its import makes."""
    folder = tmp_path_factory.mktemp("foreign")
    state = write_small_checkpoint(folder / "avg_model.pt")
    said = invoke("import", folder / "avg_model.pt", "--workdir", folder / "run", "--num-mel-bins", 16)
    return folder, state, said


def test_the_run_holds_the_network_and_its_origin(folder):
    folder, state, said = folder
    network = load_network(folder / "run")
    expected = import_model(state, num_features=16)
    jax.tree.map(np.testing.assert_array_equal, network.variables, expected.variables)
    assert network.config.model == expected.config
    assert network.step == 0
    data = json.loads((folder / "run" / "data.json").read_text())
    digest = hashlib.sha256((folder / "avg_model.pt").read_bytes()).hexdigest()
    assert data["file_sha256"] == digest
    assert data["family"] == "wespeaker_xvector"
    assert data["fbank"]["num_mel_bins"] == "option"
    assert f"sha256 {digest}" in said
    assert "fbank.num_mel_bins = 16 (option)" in said
    assert "fbank.window = hamming (default of wespeaker_xvector)" in said


def test_the_run_embeds_and_has_no_head(folder, tmp_path):
    folder, _, _ = folder
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    assert SpeakerEncoder.load(folder / "run").embed(waveform).vectors.shape == (1, 6)
    assert read_speakers(folder / "run") == []
    with Checkpoints(folder / "run") as checkpoints:
        assert checkpoints.restore_head() == ({}, 0)
    average_checkpoints(folder / "run", 1, tmp_path / "average")
    ours, theirs = load_network(folder / "run"), load_network(tmp_path / "average")
    jax.tree.map(np.testing.assert_allclose, ours.variables, theirs.variables)


def test_exports_equal_the_import(folder, tmp_path):
    folder, state, _ = folder
    said = invoke("export", folder / "run", "--output", tmp_path / "out")
    assert "WeSpeaker XVEC is in" in said
    written = read_checkpoint_file(tmp_path / "out" / "avg_model.pt")
    assert written.keys() == state.keys()
    jax.tree.map(np.testing.assert_array_equal, written, state)
    invoke("import", tmp_path / "out" / "avg_model.pt", "--workdir", tmp_path / "again")  # config.yaml tells 16 bins
    assert load_network(tmp_path / "again").config.fbank.num_mel_bins == 16
    invoke("export", folder / "run", "--output", tmp_path / "model.safetensors")
    network = load_network(folder / "run")
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        assert from_dict(json.loads(file.metadata()["mqmha_config"])) == network.config
        kernel = file.get_tensor("params/embedding/kernel")
    np.testing.assert_array_equal(kernel, network.variables["params"]["embedding"]["kernel"])
    invoke("import", tmp_path / "model.safetensors", "--workdir", tmp_path / "ours")
    ours = load_network(tmp_path / "ours")
    assert ours.config == network.config
    jax.tree.map(np.testing.assert_array_equal, ours.variables, network.variables)


def test_a_network_of_3dspeaker_goes_to_both_toolkits_with_the_same_tensors(tmp_path):
    config = ModelConfig(
        encoder=part("campplus", width=4, first_channels=8, growth=4, bottleneck_factor=2, block_sizes=[1, 1, 1]),
        pooling=part("tstp", variance_offset=0.0),
        embedding_dim=6,
        embedding_bias=False,
        normalize_embedding=True,
    )
    variables = random_variables(config, 16)
    tensors = export_model(config, variables, num_features=16, toolkit="3dspeaker").tensors
    write_torch_file(tmp_path / "campplus.bin", tensors)
    invoke("import", tmp_path / "campplus.bin", "--workdir", tmp_path / "run", "--num-mel-bins", 16)
    said = invoke("export", tmp_path / "run", "--format", "3dspeaker", "--output", tmp_path / "again.bin")
    fixed = "3D-Speaker computes another filterbank (num_mel_bins: 16 here, 80 there), so its embeddings differ."
    assert said == f"3D-Speaker CAM++ is in {tmp_path / 'again.bin'}.\nNote: {fixed}\n"
    said = invoke("export", tmp_path / "run", "--output", tmp_path / "wespeaker")
    assert "Note: pooling.variance_offset: 0.0 here, 1e-07 there; this changes embeddings of random frames" in said
    assert "Note: WeSpeaker computes another filterbank (window: povey here, hamming there), so its" in said
    for name in ("again.bin", "wespeaker/avg_model.pt"):
        jax.tree.map(np.testing.assert_array_equal, read_checkpoint_file(tmp_path / name), tensors)


@pytest.mark.parametrize(
    "option",
    [
        {"low_hz": 60.0},
        {"high_hz": -400.0},
        {"preemphasis": 0.5},
        {"snip_edges": False},
        {"dither": 0.5},
        {"window": "povey"},
        {"sample_rate_hz": 8000, "frame_length_ms": 20.0, "frame_shift_ms": 5.0},
    ],
)
def test_an_export_for_wespeaker_imports_with_the_same_features_and_says_what_differs_there(folder, tmp_path, option):
    network = load_network(folder[0] / "run")
    fbank = dataclasses.replace(network.config.fbank, **option)
    config = dataclasses.replace(network.config, fbank=fbank)
    write_network_run(tmp_path / "run", config, {}, network.variables, head={})
    said = invoke("export", tmp_path / "run", "--output", tmp_path / "out")
    for name, value in option.items():
        assert (f"{name}: {value} here, {getattr(FbankSpec(), name)} there" in said) == ("sample_rate_hz" not in option)
    assert load_file(tmp_path / "out" / "avg_model.pt").config.fbank == fbank


@pytest.mark.parametrize("export", [export_wespeaker, export_3dspeaker])
def test_a_network_that_reads_the_log_energy_is_not_exported_for_other_toolkits(folder, tmp_path, export):
    network = load_network(folder[0] / "run")
    config = dataclasses.replace(network.config, fbank=FbankSpec(num_mel_bins=15, use_energy=True))
    write_network_run(tmp_path / "run", config, {}, network.variables, head={})
    with pytest.raises(
        UserError, match=r"use_energy=true\), which .*Speaker does not compute\. Use --format safetensors"
    ):
        export(tmp_path / "run", tmp_path / "out")


def test_a_changed_byte_of_an_exported_network_is_refused(folder, tmp_path):
    network = load_network(folder[0] / "run")
    path = tmp_path / "model.safetensors"
    write_network_file(path, network.config, network.variables)
    content = path.read_bytes()
    for place in (len(content) - 1, len(content) - 102, content.index(b"hamming")):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"model\.safetensors differs from what was written: its checksum"):
            load_file(path)


def test_an_exported_network_can_be_read_by_whom_the_umask_allows(folder, tmp_path):
    network = load_network(folder[0] / "run")
    write_network_file(tmp_path / "model.safetensors", network.config, network.variables)
    (tmp_path / "usual").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_file_that_names_code_is_refused(folder, tmp_path):
    network = load_network(folder[0] / "run")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    config = dataclasses.replace(network.config, model=ModelConfig(encoder=part(f"{tmp_path}/evil.py:Encoder")))
    write_network_file(tmp_path / "model.safetensors", config, network.variables)
    with pytest.raises(UserError, match=r"needs Python code of its author.*nothing was executed"):
        SpeakerEncoder.from_pretrained(tmp_path / "model.safetensors")
    text = json.dumps(to_dict(config))
    for disguised in (text.replace(".py:", "\\u002epy:"), text.replace(".py:", ".p\\u0079\\u003a")):
        save_file({}, tmp_path / "model.safetensors", metadata={"mqmha_config": disguised})
        with pytest.raises(UserError, match=r"needs Python code of its author.*nothing was executed"):
            SpeakerEncoder.from_pretrained(tmp_path / "model.safetensors")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("depth", [300, 900, 100_000])
def test_a_configuration_that_is_deep_is_a_sentence(depth, tmp_path):
    deep = '{"model": {"encoder": {"name": "resnet34", "options": {"a": ' + '{"a":' * depth + "1" + "}" * depth + "}}}}"
    save_file({}, tmp_path / "model.safetensors", metadata={"mqmha_config": deep})
    with pytest.raises(UserError, match=r"nested too deeply|depth exceeded"):
        SpeakerEncoder.from_pretrained(tmp_path / "model.safetensors")


def test_evaluation_gives_verify_a_threshold_without_a_mean(tmp_path):
    write_small_checkpoint(tmp_path / "model.pt", num_features=8)
    invoke("import", tmp_path / "model.pt", "--workdir", tmp_path / "run", "--num-mel-bins", 8)
    write_tiny_shards(tmp_path / "shards", speakers=3)
    trials = write_tiny_trials(tmp_path / "trials", speakers=3)
    options = ["--data", tmp_path / "shards", "--trials", trials, "--replicates", 0, "--save-threshold"]
    assert "EER" in invoke("evaluate", tmp_path / "run", *options)
    encoder = SpeakerEncoder.load(tmp_path / "run")
    assert encoder.threshold is not None
    assert encoder.mean is None


def test_safetensors_in_low_precision_are_read(tmp_path):
    import ml_dtypes

    state = {f"module.{name}": value.astype(ml_dtypes.bfloat16) for name, value in small_state().items()}
    save_file(state, tmp_path / "model.safetensors")
    run = import_run(tmp_path / "model.safetensors", tmp_path / "run", fbank={"num_mel_bins": 16})
    assert run.file.family == "wespeaker_xvector"
    kernel = load_network(tmp_path / "run").variables["params"]["embedding"]["kernel"]
    np.testing.assert_allclose(kernel, small_state()["seg_2.weight"].T, rtol=2**-8)


def test_a_config_next_to_the_file_gives_the_features(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "model: ECAPA_TDNN_c512\nmodel_args: {feat_dim: 72, embed_dim: 192}\n"
        "dataset_args: {resample_rate: 8000, fbank_args: {num_mel_bins: 64, frame_length: 20, dither: 1.0}}\n"
    )
    found = read_wespeaker_config(tmp_path / "config.yaml").fbank
    assert found == {"num_mel_bins": 64, "frame_length_ms": 20, "sample_rate_hz": 8000}
    (tmp_path / "config.yaml").write_text("model_args: {feat_dim: 72}\n")
    assert read_wespeaker_config(tmp_path / "config.yaml") == ({"num_mel_bins": 72}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date: 2024-13-45", r"such as a date in month 13 \(ValueError: month must be in 1..12\). Correct it, or move"),
        ("x: !!int ''", "IndexError"),
        ("x: !!timestamp x", "AttributeError"),
        ("x: !!bool x", "KeyError: 'x'"),
        ("x: !!float 1:" + "0:" * 400 + "0", "OverflowError"),
        ("model_args: {feat_dim: [1, 2]}", "feat_dim must be one number or word"),
        (f"model_args: {{feat_dim: 0x{'f' * 10_000}}}", "feat_dim must be one number or word"),
        ("a: &a {x: 1, y: 2}\nb: {<<: [*a, *a]}", "line 2: mappings merged by '<<' are not read; copy them"),
    ],
)
def test_a_config_that_cannot_be_used_is_named(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_wespeaker_config(tmp_path / "config.yaml")
    assert str(error.value).startswith(f"{tmp_path}/config.yaml")


def test_options_come_before_the_config_and_the_config_before_the_default(tmp_path):
    write_small_checkpoint(tmp_path / "avg_model.pt")
    (tmp_path / "config.yaml").write_text("dataset_args: {fbank_args: {num_mel_bins: 16, frame_shift: 5}}\n")
    run = import_run(tmp_path / "avg_model.pt", tmp_path / "run", fbank={"frame_shift_ms": 8}).file
    assert (run.config.fbank.num_mel_bins, run.config.fbank.frame_shift_ms) == (16, 8)
    assert run.origins["num_mel_bins"] == str(tmp_path / "config.yaml")
    assert run.origins["frame_shift_ms"] == "option"
    assert run.config.fbank.window == Config().fbank.window


def test_an_existing_directory_stays_unchanged(tmp_path):
    with pytest.raises(UserError, match=r"already exists\. Give a new directory"):
        import_run(tmp_path / "any.pt", tmp_path)


def test_outputs_are_checked_before_the_network_is_read(folder, tmp_path, monkeypatch):
    folder, _, _ = folder
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "config.yaml").mkdir(parents=True)
    monkeypatch.setattr("mqmha_jax.interop.import_run.load_file", lambda *_, **__: pytest.fail("read the file"))
    monkeypatch.setattr("mqmha_jax.interop.export_run.load_network", lambda *_, **__: pytest.fail("read the run"))
    for message, work in [
        ("file/run cannot be written", lambda: import_run(folder / "avg_model.pt", tmp_path / "file" / "run")),
        ("file is a file; the output is a directory", lambda: export_wespeaker(folder / "run", tmp_path / "file")),
        ("config.yaml is a directory", lambda: export_wespeaker(folder / "run", tmp_path / "taken")),
        ("taken is a directory; give the path of", lambda: export_safetensors(folder / "run", tmp_path / "taken")),
    ]:
        with pytest.raises(UserError, match=message):
            work()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


@pytest.mark.parametrize("present", ["avg_model.pt", "config.yaml"])
def test_a_model_of_another_toolkit_is_not_replaced(folder, tmp_path, present):
    folder, _, _ = folder
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / present).write_text("model: theirs\n")
    with pytest.raises(
        UserError, match=f"already holds {present}, not written by mqmha export, which would replace it"
    ):
        export_wespeaker(folder / "run", tmp_path / "theirs")
    assert (tmp_path / "theirs" / present).read_text() == "model: theirs\n"
    for _ in range(2):  # its own files it replaces
        export_wespeaker(folder / "run", tmp_path / "ours")


@pytest.mark.parametrize("output", ["x.safetensors", "wespeaker"])
def test_options_that_a_format_cannot_follow_are_refused(folder, tmp_path, output):
    folder, _, _ = folder
    arguments = ["export", folder / "run", "--output", tmp_path / output, "--dtype", "float16", "--batch", 1]
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 2
    assert "writes the variables as they are, without --batch and --dtype: these options are for onnx" in result.stderr
    assert not (tmp_path / output).exists()


def test_from_pretrained_takes_runs_files_folders_and_the_hub(folder, tmp_path, monkeypatch):
    folder, _, _ = folder
    waveform = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    invoke("export", folder / "run", "--output", tmp_path / "out")
    # The layout of the Hub's cache: names lead to files by their content, and refs/main to a revision.
    cache = tmp_path / "hub" / "models--owner--speakers"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    (cache / "blobs").mkdir()
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for i, path in enumerate((tmp_path / "out").iterdir()):
        (cache / "blobs" / str(i)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    huggingface_hub = pytest.importorskip("huggingface_hub")
    download = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repository: download(repository, cache_dir=tmp_path / "hub", local_files_only=True),
    )
    expected = SpeakerEncoder.load(folder / "run").embed(waveform).vectors
    for source in (folder / "run", tmp_path / "out", tmp_path / "out" / "avg_model.pt", "hf:owner/speakers"):
        encoder = SpeakerEncoder.from_pretrained(source)
        np.testing.assert_allclose(encoder.embed(waveform).vectors, expected, rtol=1e-5)
    assert "hf:owner/speakers, WeSpeaker XVEC" in repr(encoder)
    with pytest.raises(UserError, match="repository owner/other of the Hugging Face Hub cannot be downloaded"):
        SpeakerEncoder.from_pretrained("hf:owner/other")
    with pytest.raises(UserError, match=r"no file or directory .*absent.*written hf:owner/name"):
        SpeakerEncoder.from_pretrained(tmp_path / "absent")
    with pytest.raises(UserError, match=r"must hold one checkpoint .*it holds none"):
        SpeakerEncoder.from_pretrained(cache)
