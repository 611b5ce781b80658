"""Frames in 8 bits: how large their error is, and that every reader decodes them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_coding import LEVELS, decode, encode
from mqmha_jax.data.shard_file import UtteranceFbank
from mqmha_jax.data.shard_format import SEGMENT_FRAMES
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import write_shards

SPEC = FbankSpec(num_mel_bins=6)
FLOAT16_ROUNDING = 2.0**-11
"""Relative, of the decoded value."""


def frames(num_frames: int, seed: int = 0) -> np.ndarray:
    """Bins of very different ranges; the first never changes."""
    rng = np.random.default_rng(seed)
    values = rng.normal(8, [0, 0.01, 1, 2, 4, 4], (num_frames, 6)).clip(-15.94, 25)
    return values.astype(np.float16)


def test_the_error_is_half_a_step_and_constant_bins_are_exact() -> None:
    original = frames(1000)
    restored = decode(encode(original)).astype(np.float64)
    error = restored - original
    steps = np.ptp(original.astype(np.float64), axis=0) / LEVELS
    np.testing.assert_array_equal(error[:, 0], 0)
    assert (np.abs(error) <= steps[None] / 2 + FLOAT16_ROUNDING * np.abs(restored) + 1e-6).all()
    # A uniform error has a root mean square of step / sqrt(12); float16 adds to it where steps are small.
    wide = steps > 0.02
    np.testing.assert_allclose(np.sqrt(np.mean(error[:, wide] ** 2, axis=0)), steps[wide] / 12**0.5, rtol=0.1)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_the_shortest_utterances_read_back(num_frames: int) -> None:
    original = frames(num_frames)
    np.testing.assert_allclose(decode(encode(original)), original, atol=1e-2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coded") / "out"
    lengths = (1, SEGMENT_FRAMES, 2 * SEGMENT_FRAMES + 50)
    utterances = [UtteranceFbank(f"u{i}", "s", frames(length, i)) for i, length in enumerate(lengths)]
    write_shards(path, utterances, spec=SPEC, provenance={}, coding="uint8")
    return path


def test_crops_of_coded_shards_are_slices_of_the_whole_utterance_coded(directory: Path) -> None:
    shards = open_shards(directory)
    assert shards.info.coding == "uint8"
    for index, length in enumerate(shards.num_frames):
        expected = decode(encode(frames(int(length), index)))
        assert shards.fbank(index).dtype == np.float16
        np.testing.assert_array_equal(shards.fbank(index), expected)
    np.testing.assert_array_equal(shards.crop(2, 190, 220), decode(encode(frames(450, 2)))[190:410])


def test_tensorflow_datasets_reads_coded_frames_and_their_scale(directory: Path) -> None:
    program = """
import sys
import numpy as np
import tensorflow_datasets as tfds
records = tfds.builder_from_directory(sys.argv[1]).as_data_source("train")
frames = [record["fbank"] * record["scale"][None] + record["offset"][None] for record in records]
np.save(sys.argv[2], np.concatenate(frames).astype(np.float16))
"""
    seen = directory.parent / "seen.npy"
    subprocess.run([sys.executable, "-c", program, str(directory), str(seen)], check=True)
    shards = open_shards(directory)
    np.testing.assert_array_equal(np.load(seen), np.concatenate([shards.fbank(i) for i in range(len(shards))]))


def test_real_speech_loses_little(speech_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Speech of every set; the figures stand in docs/data.md."""
    from mqmha_jax.features.audio import read_audio
    from mqmha_jax.features.fbank import extract_fbank

    files = [sorted(folder.rglob("*.*"))[0] for folder in sorted((speech_dir / "audio").iterdir())]
    squares, largest, steps = [], 0.0, []
    for path in files:
        fbank = extract_fbank(read_audio(path, 16_000), FbankSpec())
        coded = encode(fbank)
        error = decode(coded).astype(np.float32) - fbank
        squares.append(np.mean(error**2))
        largest = max(largest, float(np.abs(error).max()))
        steps.append(coded.scale.mean())
    rms, step = float(np.sqrt(np.mean(squares))), float(np.mean(steps))
    print(f"8 bits: rms {rms:.4f}, largest {largest:.4f}, mean step {step:.4f}, rms {rms / step:.3f} steps")
    assert rms < 0.04
    assert largest < 0.1
