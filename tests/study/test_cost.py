"""The random batch on which a study measures its cost."""

import pytest

from mqmha_jax.config_io import with_overrides
from mqmha_jax.parallel import device_mesh
from mqmha_jax.study.cost import random_batch
from mqmha_jax.train.build import build_training
from tests.support.tiny import tiny_config


@pytest.mark.parametrize(
    ("overrides", "more"),
    [
        ([], set()),
        (["augment.noise=noise", "augment.rooms=rooms", "augment.context_frames=7"], {"noise", "decay"}),
    ],
)
def test_the_batch_holds_every_array_that_the_step_takes(overrides: list[str], more: set[str]) -> None:
    config = with_overrides(tiny_config({}), overrides)
    training = build_training(config, num_speakers=8, mesh=device_mesh(config.mesh))
    batch = random_batch(training, config.data.crop_frames, 8)
    assert batch.keys() == {"fbank", "num_frames", "speaker", "example"} | more
    for name, spec in training.batch.items():
        assert (batch[name].shape, batch[name].dtype) == (spec.shape, spec.dtype)
    assert set(batch["num_frames"]) == {config.data.crop_frames}
    assert 0 <= batch["speaker"].min() <= batch["speaker"].max() < 8
