"""The training step lowers for NVIDIA GPUs without one: every encoder, pooling and loss, on a mesh."""

import dataclasses
import itertools

import pytest
from jax import export

from mqmha_jax import parallel
from mqmha_jax.config import MeshConfig, PairTerm
from mqmha_jax.config_io import load_config
from mqmha_jax.losses import MARGINS, PAIRS
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.encoders.redimnet import REDIMNETS
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.train.build import build_training
from tests.support.convolutions import check_convolutions
from tests.support.small_nets import SMALL_ENCODERS, small_model
from tests.support.tiny import tiny_config

NO_DATA = {"train": "none"}
ELEMENTS = {"float32": "f32", "bfloat16": "bf16"}
LOSSES = (*MARGINS, *PAIRS)


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
    assert check_convolutions(exported.mlir_module(), "bf16", gradient=True)


def _with_loss(config, name):
    if name in MARGINS:
        return dataclasses.replace(config, loss=dataclasses.replace(config.loss, name=name))
    loss = dataclasses.replace(config.loss, pairs=(PairTerm(name=name),))
    data = dataclasses.replace(config.data, sampling="speaker", utterances_per_speaker=2)
    return dataclasses.replace(config, loss=loss, data=data)


def _combinations():
    """Encoder, pooling, loss and type: each two of them meet; all four would take hours."""
    for (e, encoder), (p, pooling), (d, dtype) in itertools.product(
        enumerate(SMALL_ENCODERS), enumerate(POOLINGS), enumerate(ELEMENTS)
    ):
        yield encoder, pooling, LOSSES[(e + p + 5 * d) % len(LOSSES)], dtype


def test_each_two_parts_meet_in_a_combination():
    parts = (SMALL_ENCODERS, POOLINGS, LOSSES, ELEMENTS)
    for i, j in itertools.combinations(range(4), 2):
        met = {(combination[i], combination[j]) for combination in _combinations()}
        assert met == set(itertools.product(parts[i], parts[j]))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_lowers(name):
    assert _lower(_with_loss(_tiny(), name)).platforms == ("cuda",)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("encoder", SMALL_ENCODERS)
def test_every_pooling_and_loss_lower_with_an_encoder(encoder, dtype):
    for pooling, loss in [(p, loss) for e, p, loss, d in _combinations() if (e, d) == (encoder, dtype)]:
        options = {"heads": 2} if pooling in ("mha", "mqmha") else {}
        model = dataclasses.replace(small_model(encoder, pooling, **options), compute_dtype=dtype)
        exported = _lower(_with_loss(dataclasses.replace(_tiny(), model=model), loss))
        assert exported.nr_devices == 8
        assert check_convolutions(exported.mlir_module(), ELEMENTS[dtype], gradient=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ELEMENTS)
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
    exported = _lower(load_config("voxceleb_resnet34_mqmha", options))
    assert exported.nr_devices == 8
    assert check_convolutions(exported.mlir_module(), ELEMENTS[dtype], gradient=True)
