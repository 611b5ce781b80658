"""The programs of docs/export.md run beside the files that ``mqmha export`` writes, without this package."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mqmha_jax.cli import main
from mqmha_jax.config import Config, FbankSpec
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.models import build_speaker_net
from mqmha_jax.runs.network_run import write_network_run
from tests.support.documents import DOCS, blocks, write_files
from tests.support.small_nets import NUM_FEATURES, draw_variables, small_model

onnx = pytest.importorskip("onnx", reason="needs onnx, which the extra 'export' installs")
pytest.importorskip("onnxruntime", reason="needs onnxruntime, which the extra 'test' installs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, a recording and the files that the document's commands write."""
    folder = tmp_path_factory.mktemp("export")
    config = Config(model=small_model("tdnn", "tstp"), fbank=FbankSpec(num_mel_bins=NUM_FEATURES))
    network = draw_variables(build_speaker_net(config.model))
    write_network_run(folder / "RUN", config, {}, network, head={})
    soundfile.write(folder / "speech.wav", np.random.default_rng(0).normal(size=800) * 0.1, 16_000, "PCM_16")
    write_files(DOCS / "export.md", folder)
    return folder


def export(folder, *arguments):
    result = CliRunner().invoke(main, ["export", str(folder / "RUN"), *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def run_without_this_package(program, folder):
    code = f"import sys; sys.modules['mqmha_jax'] = None; exec(open({program!r}).read())"
    environment = {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.array(done.stdout.replace("[", " ").replace("]", " ").split(), np.float64)


def lines(title):
    (program,) = (block.text for block in blocks(DOCS / "export.md") if block.title == title)
    return [line for line in program.splitlines() if line.strip()]


def test_a_wave_file_through_onnx_runtime_has_our_embedding(folder):
    assert len(lines("with_onnx.py")) <= 8
    export(folder, "--output", folder / "net.onnx")
    found = run_without_this_package("with_onnx.py", folder)
    expected = SpeakerEncoder.load(folder / "RUN").embed(folder / "speech.wav", on_warning=lambda _: None).vectors[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-4)


def test_jax_alone_loads_stablehlo(folder):
    assert len(lines("with_jax.py")) <= 10
    export(folder, "--output", folder / "net.stablehlo")
    assert np.isfinite(run_without_this_package("with_jax.py", folder)).all()


def test_a_file_for_sherpa_onnx_has_its_metadata_and_says_how_the_filterbanks_differ(folder):
    said = export(folder, "--output", folder / "fbank.onnx", "--input", "fbank", "--batch", "1")
    assert "num_mel_bins: 8 here, 80 there" in said
    assert "window: hamming here, povey there" in said
    model = onnx.load(folder / "fbank.onnx")
    (only,) = model.graph.input
    assert [size.dim_param or size.dim_value for size in only.type.tensor_type.shape.dim] == [1, "frames", NUM_FEATURES]
    properties = {item.key: item.value for item in model.metadata_props}
    expected = {
        "framework": "wespeaker",
        "sample_rate": "16000",
        "output_dim": "6",
        "normalize_samples": "0",
        "feature_normalize_type": "global-mean",
        "fbank_window": '"hamming"',
    }
    assert properties | expected == properties
    assert properties["language"]


def test_a_size_that_is_no_number_is_refused(folder):
    result = CliRunner().invoke(main, ["export", str(folder / "RUN"), "--output", "x.onnx", "--batch", "many"])
    assert result.exit_code != 0
    assert "'many' is neither a number nor 'any'" in result.output
