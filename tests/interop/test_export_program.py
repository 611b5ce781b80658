"""An exported file gives the embeddings of the network that it was made from, for every encoder and every pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from mqmha_jax.config import Config, FbankSpec, ModelConfig, part
from mqmha_jax.errors import UserError
from mqmha_jax.features.fbank import log_mel_fbank
from mqmha_jax.interop import variable_shapes
from mqmha_jax.interop.embedding_program import embedding_program
from mqmha_jax.interop.export_onnx import write_onnx
from mqmha_jax.interop.export_stablehlo import write_stablehlo
from mqmha_jax.models import build_speaker_net
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.pooling import POOLINGS
from tests.support.small_nets import NUM_FEATURES, SMALL_ENCODERS, draw_variables, small_model

ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime, which the extra 'test' installs")
pytest.importorskip("onnx", reason="needs onnx, which the extra 'export' installs")

SPEC = FbankSpec(num_mel_bins=NUM_FEATURES)
LENGTHS = np.array([41, 17, 1])
# Networks whose operations others have too.
RELATED = {"resnet50", "res2net", "redimnet_b1", "sap", "asp", "mha", "global_mha"}
CASES = [
    pytest.param(
        encoder, pooling, id=f"{encoder}-{pooling}", marks=[pytest.mark.slow] if RELATED & {encoder, pooling} else []
    )
    for encoder, pooling in [
        *((encoder, "tstp") for encoder in SMALL_ENCODERS),
        *(("tdnn", pooling) for pooling in POOLINGS),
    ]
]


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3  # an optional input is worth a warning to it
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def small(encoder="tdnn", pooling="tstp", spec=SPEC, **options):
    config = Config(model=small_model(encoder, pooling, **options), fbank=spec)
    return config, draw_variables(build_speaker_net(config.model))


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def short_program(tmp_path_factory):
    path = tmp_path_factory.mktemp("short") / "net.onnx"
    write_onnx(path, embedding_program(*small()), {})
    return session(path)


@pytest.mark.parametrize(("encoder", "pooling"), CASES)
def test_onnx_embeds_padded_and_single_utterances_as_the_network(encoder, pooling, tmp_path):
    options = {"heads": 4} if pooling in ("mha", "mqmha") else {}
    program = embedding_program(*small(encoder, pooling, **options), source="fbank")
    write_onnx(tmp_path / "net.onnx", program, {})
    fbank = noise(3, LENGTHS.max(), NUM_FEATURES)
    expected = unit(np.asarray(jax.jit(program.function)(fbank, jnp.asarray(LENGTHS, jnp.int32))))
    run = session(tmp_path / "net.onnx").run
    (found,) = run(None, {"fbank": fbank, "num_frames": LENGTHS})
    np.testing.assert_allclose(unit(found), expected, atol=1e-5)
    for row, length in enumerate(LENGTHS):
        (found,) = run(None, {"fbank": fbank[row : row + 1, :length]})
        np.testing.assert_allclose(unit(found)[0], expected[row], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_onnx_embeds_as_the_network_at_full_size(encoder, tmp_path):
    features = 60 if encoder == "redimnet_b0" else 72 if encoder.startswith("redimnet") else 80
    config = Config(
        model=ModelConfig(encoder=part(encoder), pooling=part("tstp")), fbank=FbankSpec(num_mel_bins=features)
    )
    rng = np.random.default_rng(0)
    # Variance 1 / inputs. With 2 / inputs, residual sums without trained normalisation grow so large that float32
    # itself is 1e-3 from float64 (eres2net_aug; 2e-7 with this).
    variables = {
        path: jnp.asarray(rng.normal(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5, leaf.dtype)
        if len(leaf.shape) > 1
        else jnp.full(leaf.shape, path[-1] in ("scale", "var"), leaf.dtype)
        for path, leaf in variable_shapes(config.model, features).items()
    }
    program = embedding_program(config, traverse_util.unflatten_dict(variables))
    write_onnx(tmp_path / "net.onnx", program, {})
    samples = np.array([16_000, 4_800])
    waveform = noise(2, 16_000) * 0.1
    expected = unit(np.asarray(jax.jit(program.function)(waveform, jnp.asarray(samples, jnp.int32))))
    run = session(tmp_path / "net.onnx").run
    np.testing.assert_allclose(unit(run(None, {"waveform": waveform, "num_samples": samples})[0]), expected, atol=1e-4)
    np.testing.assert_allclose(unit(run(None, {"waveform": waveform[1:, :4_800]})[0])[0], expected[1], atol=1e-4)


@pytest.mark.parametrize(
    "spec",
    [SPEC, FbankSpec(num_mel_bins=7, use_energy=True, window="povey", snip_edges=False, high_hz=-400.0)],
    ids=["kaldi", "reflected"],
)
def test_a_file_computes_the_filterbank_of_each_recording(spec, tmp_path):
    config, variables = small(spec=spec)
    write_onnx(tmp_path / "net.onnx", embedding_program(config, variables), {})
    write_onnx(tmp_path / "fbank.onnx", embedding_program(config, variables, source="fbank", batch=1), {})
    samples = np.array([1600, 997, 400])
    waveform = noise(3, samples.max()) * 0.1
    waveform[1, 997:] = np.nan  # padding may hold anything
    (found,) = session(tmp_path / "net.onnx").run(None, {"waveform": waveform, "num_samples": samples})
    for row, length in enumerate(samples):
        fbank = np.asarray(log_mel_fbank(waveform[row, :length], spec))[None]
        (expected,) = session(tmp_path / "fbank.onnx").run(None, {"fbank": fbank})
        np.testing.assert_allclose(unit(found)[row], unit(expected)[0], atol=1e-5)


def test_a_recording_that_cannot_be_embedded_is_nan_and_silence_is_not(short_program):
    waveform = noise(4, 800) * 0.1
    waveform[0, 700] = np.nan
    waveform[1, 10] = np.inf
    waveform[3] = 0
    (found,) = short_program.run(None, {"waveform": waveform, "num_samples": np.array([800, 800, 399, 800])})
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [True, True, True, False])
    assert np.isfinite(found[3]).all()


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, 800, 2), "Invalid rank for input: waveform Got: 3 Expected: 2"),
        ((800, 2), "Reshape"),
        ((1, 399), "Reshape"),
    ],
    ids=["stereo", "stereo without a row", "less than one window"],
)
def test_onnx_runtime_refuses_what_is_no_row_of_one_channel(shape, reason, short_program):
    with pytest.raises(Exception, match=reason):
        short_program.run(None, {"waveform": np.ones(shape, np.float32)})


def test_fixed_shapes_and_float16(tmp_path):
    config, variables = small("resnet18", "mqmha")
    waveform = noise(2, 8000) * 0.1
    vectors = {}
    for dtype in ("float32", "float16"):
        program = embedding_program(config, variables, dtype=dtype, batch=2, seconds=0.5)
        write_onnx(tmp_path / f"{dtype}.onnx", program, {})
        run = session(tmp_path / f"{dtype}.onnx")
        assert run.get_inputs()[0].shape == [2, 8000]
        (vectors[dtype],) = run.run(None, {"waveform": waveform})
    assert (unit(vectors["float32"]) * unit(vectors["float16"])).sum(axis=1).min() > 0.999
    assert vectors["float16"].dtype == np.float32


def test_stablehlo_embeds_padded_batches_of_any_size_and_length(tmp_path):
    program = embedding_program(*small("tdnn", "mqmha"))
    write_stablehlo(tmp_path / "net.stablehlo", program)
    exported = jax.export.deserialize((tmp_path / "net.stablehlo").read_bytes())
    assert exported.platforms == ("cpu", "cuda", "tpu")
    waveform, samples = noise(2, 1600) * 0.1, jnp.array([1600, 997])
    expected = unit(np.asarray(jax.jit(program.function)(waveform, samples)))
    np.testing.assert_allclose(unit(np.asarray(exported.call(waveform, samples))), expected, atol=1e-5)


class SortedFrames(nn.Module):
    """An encoder of one's own with a primitive that ONNX has not."""

    @nn.compact
    def __call__(self, fbank, mask, *, train):
        return jnp.sort(nn.Dense(4)(fbank), axis=-1), mask


def test_the_unsupported_primitive_of_an_own_encoder_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(SMALL_ENCODERS, "sorted", {})
    monkeypatch.setitem(ENCODERS, "sorted", SortedFrames)
    program = embedding_program(*small("sorted"))
    with pytest.raises(UserError, match=r"primitive 'sort', which the ONNX export does not support.*stablehlo"):
        write_onnx(tmp_path / "net.onnx", program, {})
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch": 0}, "batch is 0; valid: an integer above 0"), ({"seconds": 0.01}, "shorter than one window")],
)
def test_sizes_that_hold_no_recording_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        embedding_program(*small(), **options)
