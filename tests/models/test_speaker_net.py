"""Every encoder with every pooling: shapes, gradients, and that padding changes no number."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.errors import UserError
from mqmha_jax.models import build_speaker_net, unit_length
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.encoders.resnet import ResNet
from mqmha_jax.models.masked import Compute
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.models.speaker_net import SpeakerNet
from tests.support.small_nets import NUM_FEATURES, SMALL_ENCODERS, SMALL_POOLINGS, padded_batch, small_net

# Encoders all of whose layers another one of the table has too: compiling their gradients is left to the slow tests.
RELATED = {"resnet50", "xvector"}
QUICK_ENCODERS = [pytest.param(name, marks=pytest.mark.slow) if name in RELATED else name for name in SMALL_ENCODERS]
POOLING_PAIRS = [("tdnn", "tap"), ("tdnn", "tstp"), ("ecapa512", "ccasp")]


# Every class of encoder and pooling once in full; that the other pairs fit together is a matter of shapes.
@pytest.fixture(
    params=[
        pytest.param((encoder, "mqmha"), id=encoder, marks=[pytest.mark.slow] if encoder in RELATED else [])
        for encoder in SMALL_ENCODERS
    ]
    + [pytest.param(pair, id="-".join(pair)) for pair in POOLING_PAIRS]
)
def net_and_variables(request):
    return small_net(*request.param)


@pytest.mark.parametrize("encoder", SMALL_ENCODERS)
@pytest.mark.parametrize("pooling", SMALL_POOLINGS)
def test_every_encoder_fits_every_pooling(encoder, pooling):
    net, variables = small_net(encoder, pooling)
    embedding = jax.eval_shape(functools.partial(net.apply, train=False), variables, *padded_batch(15, (15, 1, 8)))
    assert embedding.shape == (3, 6)
    assert embedding.dtype == jnp.float32


@pytest.mark.parametrize("encoder", QUICK_ENCODERS)
def test_every_encoder_can_be_rematerialised(encoder):
    net, variables = small_net(encoder, "tstp")
    again = net.clone(encoder=net.encoder.clone(compute=Compute(rematerialize=True)))

    def gradient(params):
        def loss(params):
            own = {**variables, "params": params}
            return again.apply(own, *padded_batch(16, (16, 9)), train=True, mutable=["batch_stats"])[0].sum()

        return jax.grad(loss)(params)

    assert "remat" in str(jax.make_jaxpr(gradient)(variables["params"]))


def test_the_small_tables_cover_every_encoder_class_and_pooling():
    def kind(builder):
        is_partial = isinstance(builder, functools.partial)
        kinds = ("block", "enhanced", "attention", "activation")
        return (builder.func, *map(builder.keywords.get, kinds)) if is_partial else (builder, *[None] * len(kinds))

    for every, small in ((ENCODERS, SMALL_ENCODERS), (POOLINGS, SMALL_POOLINGS)):
        assert {kind(builder) for builder in every.values()} == {kind(every[name]) for name in small}


def test_mixed_lengths_in_a_batch_equal_one_by_one(net_and_variables):
    net, variables = net_and_variables
    embed = jax.jit(lambda fbank, mask: unit_length(net.apply(variables, fbank, mask, train=False)))
    lengths = (15, 1, 8)
    alone = [embed(*(x[i : i + 1] for x in padded_batch(n, lengths)))[0] for i, n in enumerate(lengths)]
    # Rows end at odd and at even frames; the padded length is even.
    np.testing.assert_allclose(embed(*padded_batch(18, lengths)), np.stack(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("encoder", QUICK_ENCODERS)
def test_training_gradient_is_finite_and_reaches_every_parameter(encoder):
    net, variables = small_net(encoder, "ccasp" if encoder == "ecapa512" else "mqmha")
    fbank, mask = padded_batch(15, (15, 1, 8))

    @jax.jit
    def gradient(params):
        def loss(params):
            out, _ = net.apply({**variables, "params": params}, fbank, mask, train=True, mutable=["batch_stats"])
            return (out**3).sum()

        return jax.grad(loss)(params)

    for path, leaf in jax.tree.leaves_with_path(gradient(variables["params"])):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize("encoder", QUICK_ENCODERS)
def test_padding_changes_neither_training_outputs_nor_collected_statistics(encoder):
    net, variables = small_net(encoder, "tstp")
    lengths = (15, 1, 8)
    with jax.enable_x64(True):  # the encoder's statistics of a few frames amplify the rounding of float32
        net = net.clone(encoder=net.encoder.clone(compute=Compute(dtype=jnp.dtype("float64"))))
        variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
        step = jax.jit(lambda fbank, mask: net.apply(variables, fbank, mask, train=True, mutable=["batch_stats"]))
        embedding, update = step(*padded_batch(15, lengths))
        padded_embedding, padded_update = step(*padded_batch(18, lengths))
    np.testing.assert_allclose(embedding, padded_embedding, rtol=0, atol=1e-5)
    for one, other in zip(jax.tree.leaves(update), jax.tree.leaves(padded_update), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoder", QUICK_ENCODERS)
def test_bfloat16_computes_near_float32_and_keeps_parameters_and_embedding_in_float32(encoder):
    net, variables = small_net(encoder, "mqmha")
    batch = padded_batch(16, (16, 9))
    low = net.clone(encoder=net.encoder.clone(compute=Compute(dtype=jnp.dtype("bfloat16"))))
    initial = jax.eval_shape(lambda *batch: low.init(jax.random.key(0), *batch, train=False), *batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    expected = jax.jit(functools.partial(net.apply, train=False))(variables, *batch)
    embedding = jax.jit(functools.partial(low.apply, train=False))(variables, *batch)
    assert embedding.dtype == jnp.float32
    cosine = (unit_length(expected) * unit_length(embedding)).sum(axis=1)
    assert (cosine > 0.99).all()
    assert not np.array_equal(expected, embedding)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name.startswith("resnet")])
def test_resnets_are_as_deep_as_their_names_say(name):
    net = build_speaker_net(ModelConfig(encoder=part(name)))
    convolutions_per_block = {"basic": 2, "bottleneck": 3}[net.encoder.block]
    assert sum(net.encoder.stage_sizes) * convolutions_per_block + 2 == int(name.removeprefix("resnet"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder": part("resnet43")}, "Unknown encoder 'resnet43'. Did you mean 'resnet34'?"),
        ({"pooling": part("mqhma")}, "Unknown pooling 'mqhma'. Did you mean 'mqmha'?"),
        ({"pooling": part("mqmha", head=4)}, "'head'. Did you mean 'heads'?"),
        ({"encoder": part("resnet34", dtype="float16")}, "'dtype'"),
        ({"pooling": part("mqmha", heads="4")}, "pooling 'mqmha', option 'heads' cannot be '4'"),
        ({"pooling": part("mqmha", heads=0)}, "option 'heads' cannot be 0: Input should be greater than 0"),
        ({"pooling": part("mqmha", layers=3)}, "option 'layers' cannot be 3: Input should be 1 or 2"),
        ({"encoder": part("resnet34", block="botleneck")}, "Input should be 'basic' or 'bottleneck'"),
        ({"encoder": part("tdnn", dilations=3)}, "option 'dilations' cannot be 3: Input should be a valid"),
    ],
)
def test_mistaken_parts_are_named(config, message):
    with pytest.raises(UserError) as error:
        build_speaker_net(ModelConfig(**config))
    assert message in str(error.value)


def test_options_come_from_json_as_well():
    net = build_speaker_net(ModelConfig(encoder=part("resnet18", stage_sizes=[1, 1, 1, 1])))
    assert isinstance(net.encoder, ResNet)
    assert net.encoder.stage_sizes == (1, 1, 1, 1)


class _Subsampled(nn.Module):
    """An encoder of one's own that has no field ``compute``."""

    factor: int = 2

    @nn.compact
    def __call__(self, fbank, mask, *, train):
        return nn.Dense(8, name="affine")(fbank[:, :: self.factor]), mask[:, :: self.factor]


def test_an_encoder_of_ones_own_needs_no_field_compute(monkeypatch):
    monkeypatch.setitem(ENCODERS, "own", _Subsampled)
    net = build_speaker_net(ModelConfig(encoder=part("own", factor=3), pooling=part("tap"), compute_dtype="bfloat16"))
    shapes = jax.eval_shape(functools.partial(net.init, jax.random.key(0), train=False), *padded_batch(16, (16, 9)))
    assert shapes["params"]["encoder"]["affine"]["kernel"].shape == (NUM_FEATURES, 8)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("np.ndarray", "option 'depth' has the annotation <class 'numpy.ndarray'>, which options cannot have; use int"),
        ("Sequence[int]", "has an annotation that cannot be read (NameError: name 'Sequence' is not defined). Import"),
    ],
)
def test_annotations_that_options_cannot_have_are_named(tmp_path, annotation, message):
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "import numpy as np\n"
        "from flax import linen as nn\n"
        "if TYPE_CHECKING:\n"
        "    from collections.abc import Sequence\n"
        "class Own(nn.Module):\n"
        f"    depth: {annotation} = 3\n"
    )
    name = f"{tmp_path}/own.py:Own"
    assert build_speaker_net(ModelConfig(pooling=part(name))).pooling.depth == 3
    with pytest.raises(UserError) as error:
        build_speaker_net(ModelConfig(pooling=part(name, depth=4)))
    assert message in str(error.value)


def test_lists_in_options_leave_the_network_hashable(tmp_path):
    (tmp_path / "own.py").write_text(
        "from collections.abc import Sequence\n"
        "from flax import linen as nn\n"
        "class Own(nn.Module):\n"
        "    sizes: Sequence[int] = (5, 3)\n"
    )
    net = build_speaker_net(ModelConfig(pooling=part(f"{tmp_path}/own.py:Own", sizes=[7, 5])))
    assert net.pooling.sizes == (7, 5)
    hash(net)


def test_frames_in_half_precision_are_pooled_in_float32():
    class Half(nn.Module):
        def __call__(self, fbank, mask, *, train=False):
            return fbank.astype(jnp.bfloat16), mask

    class Pooling(nn.Module):
        def __call__(self, frames, mask, *, train=False):
            assert frames.dtype == jnp.float32
            return frames.mean(axis=1)

    net = SpeakerNet(encoder=Half(), pooling=Pooling(), embedding_dim=2)
    make = functools.partial(net.init, jax.random.key(0), train=False)
    jax.eval_shape(make, jnp.zeros((2, 5, 8)), jnp.ones((2, 5), bool))
