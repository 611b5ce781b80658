"""The ResNet's shapes, and the order of D. test_speaker_net.py tests padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.encoders.resnet import ResNet


@pytest.mark.parametrize(
    ("name", "num_features", "channels", "millions"),
    # Parameters of the encoders alone, counted by hand from the layer sizes of the literature's 32-channel models.
    [("resnet34", 80, 2560, 5.32), ("resnet34", 81, 2816, 5.32), ("resnet50", 80, 10240, 5.89)],
)
def test_shapes_and_size_of_the_published_models(name, num_features, channels, millions):
    encoder = ENCODERS[name]()
    fbank, mask = jax.ShapeDtypeStruct((2, 203, num_features), jnp.float32), jax.ShapeDtypeStruct((2, 203), bool)
    (frames, frame_mask), variables = jax.eval_shape(
        lambda fbank, mask: encoder.init_with_output(jax.random.key(0), fbank, mask, train=False), fbank, mask
    )
    assert frames.shape == (2, 26, channels)
    assert frame_mask.shape == (2, 26)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_channels_come_before_frequencies():
    """A stem alone is a single convolution: its result, computed by loops, must come out channel-major."""
    encoder = ResNet(stage_sizes=(), strides=(), width=3)
    fbank = np.random.default_rng(0).normal(size=(1, 4, 5)).astype(np.float32)
    batch = jnp.asarray(fbank), jnp.ones((1, 4), bool)
    variables = encoder.init(jax.random.key(0), *batch, train=False)
    frames, _ = encoder.apply(variables, *batch, train=False)
    kernel = np.asarray(variables["params"]["stem"]["conv"]["kernel"])
    padded = np.pad(fbank[0], 1)
    for t in range(4):
        for channel in range(3):
            for f in range(5):
                value = (padded[t : t + 3, f : f + 3] * kernel[:, :, 0, channel]).sum() / np.sqrt(1 + 1e-5)
                assert float(frames[0, t, channel * 5 + f]) == pytest.approx(max(value, 0), abs=1e-5)


def test_stages_and_strides_must_match():
    with pytest.raises(UserError, match="stage_sizes has 2 entries and strides 4"):
        ResNet(stage_sizes=(1, 1)).init(jax.random.key(0), jnp.ones((1, 8, 8)), jnp.ones((1, 8), bool), train=False)
