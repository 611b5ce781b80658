"""The training step lowers for NVIDIA GPUs without one: every loss, every encoder at its full size, on a mesh."""

import dataclasses

import pytest
from jax import export

from mqmha_jax import parallel
from mqmha_jax.config import MeshConfig, part
from mqmha_jax.config_io import load_config
from mqmha_jax.losses import MARGINS, PAIRS
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.encoders.redimnet import REDIMNETS
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.train.build import build_training
from tests.support.tiny import tiny_config

NO_DATA = {"train": "none"}


def _lower(config, num_speakers=12) -> export.Exported:
    training = build_training(config, num_speakers=num_speakers, mesh=parallel.device_mesh(config.mesh))
    return export.export(training.step, platforms=["cuda"])(training.state, training.batch, training.seed)


def _tiny(**model):
    config = tiny_config(NO_DATA)
    return dataclasses.replace(
        config, mesh=MeshConfig(data=4, model=2), model=dataclasses.replace(config.model, **model)
    )


def test_the_step_lowers_for_a_mesh_with_sharded_classes_in_bfloat16():
    exported = _lower(_tiny(compute_dtype="bfloat16"))
    assert exported.platforms == ("cuda",)
    assert exported.nr_devices == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", MARGINS)
def test_every_margin_loss_lowers(name):
    config = _tiny(compute_dtype="bfloat16")
    assert _lower(dataclasses.replace(config, loss=dataclasses.replace(config.loss, name=name))).nr_devices == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_loss_lowers(name):
    config = _tiny()
    loss = dataclasses.replace(config.loss, pairs=(part(name),))
    data = dataclasses.replace(config.data, sampling="speaker", utterances_per_speaker=2)
    assert _lower(dataclasses.replace(config, loss=loss, data=data)).nr_devices == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling_lowers_in_the_step(name):
    options = {"heads": 2} if name in ("mha", "mqmha") else {}
    assert _lower(_tiny(pooling=part(name, **options))).nr_devices == 8


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_lowers_at_full_size(name, dtype):
    bands = 72 if name.removeprefix("redimnet_") in REDIMNETS else 80
    options = [
        f"model.encoder={name}",
        "model.pooling=tstp",
        f"model.compute_dtype={dtype}",
        f"fbank.num_mel_bins={bands}",
        "fbank.use_energy=false",
        "data.batch_size=8",
    ]
    assert _lower(load_config("voxceleb_resnet34_mqmha", options)).nr_devices == 8
