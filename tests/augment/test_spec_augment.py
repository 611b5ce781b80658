"""Masks in time and frequency: their places, their widths, and their dependence on the example alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.augment.spec_augment import spec_augment
from mqmha_jax.config import SpecAugmentConfig

NUM_EXAMPLES, NUM_FRAMES, NUM_BINS = 300, 30, 12
LENGTHS = np.where(np.arange(NUM_EXAMPLES) % 3 == 0, np.arange(NUM_EXAMPLES) % NUM_FRAMES + 1, NUM_FRAMES)
MASK = np.arange(NUM_FRAMES)[None] < LENGTHS[:, None]
ONES = np.ones((NUM_EXAMPLES, NUM_FRAMES, NUM_BINS), np.float32)
KEYS = jax.random.split(jax.random.key(0), NUM_EXAMPLES)
augment = jax.jit(spec_augment, static_argnames="config")


def longest_run(flags: np.ndarray) -> int:
    return max((len(run) for run in "".join("x" if flag else " " for flag in flags).split()), default=0)


BOTH = SpecAugmentConfig(num_time_masks=1, max_time_mask_frames=5, num_frequency_masks=1, max_frequency_mask_bins=3)


@pytest.fixture(scope="module")
def both() -> np.ndarray:
    return np.asarray(augment(ONES, MASK, KEYS, BOTH))


def test_masks_are_whole_stripes_of_at_most_the_configured_size(both: np.ndarray) -> None:
    assert set(np.unique(both)) == {0.0, 1.0}
    frames_hit, bins_hit = np.all(both == 0, axis=2), np.all(both == 0, axis=1)
    np.testing.assert_array_equal(both == 0, frames_hit[:, :, None] | bins_hit[:, None, :])
    for hits, most in ((frames_hit, 5), (bins_hit, 3)):
        widths = hits.sum(axis=1)
        assert [longest_run(row) for row in hits] == widths.tolist()
        assert set(widths) == set(range(most + 1))


def test_every_position_is_hit_and_time_masks_fall_on_valid_frames(both: np.ndarray) -> None:
    frames_hit, bins_hit = np.all(both == 0, axis=2), np.all(both == 0, axis=1)
    assert frames_hit.any(axis=0).all()
    assert bins_hit.any(axis=0).all()
    assert not (frames_hit & ~MASK).any()


def test_an_example_does_not_depend_on_its_row(both: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(NUM_EXAMPLES)
    np.testing.assert_array_equal(augment(ONES, MASK[order], KEYS[order], BOTH), both[order])


def test_two_masks_are_two_stripes() -> None:
    config = SpecAugmentConfig(num_time_masks=2, max_time_mask_frames=4)
    hits = np.all(np.asarray(augment(ONES, MASK, KEYS, config)) == 0, axis=2)
    starts = np.diff(hits.astype(int), axis=1, prepend=0) == 1
    assert starts.sum(axis=1).max() == 2
    assert hits.sum(axis=1).max() > 4


def test_counts_of_zero_are_the_identity() -> None:
    fbank = np.random.default_rng(0).normal(size=ONES.shape).astype(np.float32)
    np.testing.assert_array_equal(spec_augment(jnp.asarray(fbank), jnp.asarray(MASK), KEYS, SpecAugmentConfig()), fbank)
    kept = np.asarray(augment(fbank, MASK, KEYS, SpecAugmentConfig(num_frequency_masks=1)))
    np.testing.assert_array_equal(kept[kept != 0], fbank[kept != 0])
