"""3D-Speaker's published CAM++ on real speech; needs what ``make pretrained`` downloads."""

import numpy as np
import pytest

from mqmha_jax.inference import SpeakerEncoder
from tests.support.paths import ROOT

FILE = ROOT / "build" / "pretrained" / "campplus_cn_en_common.pt"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["campplus_real_speech", "campplus_real_speech_calls"])
def test_embeddings_equal_those_of_3dspeaker(name, reference_dir, speech_dir):
    if not FILE.exists():
        pytest.skip("needs the published network: make pretrained")
    reference = np.load(reference_dir / "encoders" / f"{name}.npz", allow_pickle=False)
    encoder = SpeakerEncoder.from_pretrained(FILE)
    found = encoder.embed([speech_dir / path for path in reference["paths"]]).vectors
    expected = np.stack([reference[f"embedding/{i}"] for i in range(len(found))])
    cosine = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.9999
