"""The mean embedding that a run keeps: it comes back, and what does not fit the network is refused."""

from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings import training_mean
from mqmha_jax.evaluation.embeddings.training_mean import load_mean, mean_path, save_mean
from mqmha_jax.json_file import write_sealed_json

MEAN = np.linspace(-1, 1, 6, dtype=np.float32)


def test_each_step_has_its_own(tmp_path: Path) -> None:
    save_mean(tmp_path, MEAN, 40)
    save_mean(tmp_path, 2 * MEAN, 80)
    np.testing.assert_array_equal(load_mean(tmp_path, 40, 6), MEAN)
    np.testing.assert_array_equal(load_mean(tmp_path, 80, 6), 2 * MEAN)
    assert load_mean(tmp_path, 41, 6) is None


def test_a_checkpoint_that_was_trained_again_has_none(tmp_path: Path) -> None:
    """The mean of the earlier network of this step would shift every score, silently."""
    manifest = tmp_path / "checkpoints" / "40" / "manifest.json"
    write_sealed_json(manifest, {"files": {"a": "1"}})
    save_mean(tmp_path, MEAN, 40)
    np.testing.assert_array_equal(load_mean(tmp_path, 40, 6), MEAN)
    write_sealed_json(manifest, {"files": {"a": "2"}})
    assert load_mean(tmp_path, 40, 6) is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"step": 41}, r"does not belong to step 40: its step is 41\. Delete the file"),
        ({"step": 40.0}, r"does not belong to step 40: its step is 40\.0"),
        ({"mean": 2 * MEAN}, r"differs from what was written: its checksum does not match\. Delete the file"),
        ({"checkpoint": "another"}, r"differs from what was written: its checksum does not match\. Delete the file"),
    ],
)
def test_an_edited_file_is_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    save_mean(tmp_path, MEAN, 40)
    with np.load(mean_path(tmp_path, 40), allow_pickle=False) as kept:
        np.savez(mean_path(tmp_path, 40), **{**kept, **arrays})
    with pytest.raises(UserError, match=rf"mean_embedding-40\.npz .*{message}"):
        load_mean(tmp_path, 40, 6)


def test_a_file_without_a_checksum_counts_as_missing(tmp_path: Path) -> None:
    """An earlier version wrote it; an evaluation makes it again."""
    np.savez(mean_path(tmp_path, 40), mean=MEAN, step=40, checkpoint="")
    assert load_mean(tmp_path, 40, 6) is None


def test_a_file_that_lacks_an_array_is_refused(tmp_path: Path) -> None:
    np.savez(mean_path(tmp_path, 40), step=40, checkpoint="", sha256="")
    with pytest.raises(UserError, match=r"mean_embedding-40\.npz lacks an array .*mean.* run 'mqmha evaluate'"):
        load_mean(tmp_path, 40, 6)


@pytest.mark.parametrize(
    ("mean", "message"),
    [
        (MEAN[:5], r"a mean of shape \(5,\) and type float32; .* float32 of size 6"),
        (MEAN.astype(np.float64), r"a mean of shape \(6,\) and type float64"),
        (np.where(MEAN > 0, MEAN, np.nan).astype(np.float32), "a mean that is not finite"),
    ],
)
def test_a_mean_that_does_not_fit_the_network_is_refused(tmp_path: Path, mean: np.ndarray, message: str) -> None:
    np.savez(mean_path(tmp_path, 40), mean=mean, step=40, checkpoint="", sha256=training_mean._seal(mean, 40, ""))
    with pytest.raises(UserError, match=rf"mean_embedding-40\.npz .*{message}"):
        load_mean(tmp_path, 40, 6)


def test_any_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    save_mean(tmp_path, MEAN, 40)
    path = mean_path(tmp_path, 40)
    written = path.read_bytes()
    refused = 0
    for place in range(len(written)):
        damaged = bytearray(written)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            mean = load_mean(tmp_path, 40, 6)
        except UserError:
            mean = None
        if mean is None:  # one bit can hide the checksum, as if an earlier version had written the file
            refused += 1
        else:
            np.testing.assert_array_equal(mean, MEAN)
    assert refused > len(written) / 4
