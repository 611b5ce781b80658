"""SpeechBrain's ECAPA against the toolkit itself, where ``SPEECHBRAIN_PYTHON`` names an interpreter that has it.

python -m venv sb && sb/bin/pip install torch torchaudio speechbrain
SPEECHBRAIN_PYTHON=sb/bin/python python -m pytest tests/interop/test_speechbrain.py
"""

import os
import subprocess

import jax
import numpy as np
import pytest

from mqmha_jax.interop import import_model, read_checkpoint_file
from mqmha_jax.models import build_speaker_net
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not (python := os.environ.get("SPEECHBRAIN_PYTHON")):
        pytest.skip("needs SPEECHBRAIN_PYTHON, an interpreter that has SpeechBrain")
    folder = tmp_path_factory.mktemp("speechbrain")
    subprocess.run([python, ROOT / "tests" / "support" / "speechbrain_reference.py", folder], check=True)
    return folder


def test_embeddings_equal_speechbrains_with_and_without_padding(folder):
    reference = np.load(folder / "reference.npz", allow_pickle=False)
    model = import_model(read_checkpoint_file(folder / "zip.pt"))
    assert model.family == "speechbrain_ecapa"
    net = build_speaker_net(model.config)
    embed = jax.jit(lambda fbank, mask: net.apply(model.variables, fbank, mask, train=False))
    for length in (48, 97, 200):
        fbank, expected = reference[f"input/{length}"], reference[f"embedding/{length}"]
        for padding in (0, 13):
            padded = np.pad(fbank, ((0, 0), (0, padding), (0, 0)), constant_values=1e6)
            mask = np.tile(np.arange(length + padding) < length, (2, 1))
            np.testing.assert_allclose(embed(padded, mask), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_both_formats_of_torch_hold_the_same(folder):
    ours, old = (read_checkpoint_file(folder / f"{name}.pt") for name in ("zip", "stream"))
    assert list(ours) == list(old)
    jax.tree.map(np.testing.assert_array_equal, ours, old)
