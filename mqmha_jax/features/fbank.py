"""Kaldi-compatible log-mel filterbanks as a pure JAX function, and a host function for utterances of many lengths.

The steps and their order are Kaldi's ``compute-fbank-feats`` (``feature-window.cc``, ``mel-computations.cc``): windows,
dither, mean removal, log energy, pre-emphasis, window function, power spectrum, triangular mel filters, logarithm.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError

Size = Any
"""An int, or a symbolic size of ``jax.export``."""

WAVEFORM_SCALE = 32768.0
"""Kaldi reads 16-bit integers; a waveform in [-1, 1] times this has the same level."""

FLOOR = float(np.finfo(np.float32).eps)
"""Smallest power under the logarithm, as in Kaldi: digital silence becomes log(2^-23) = -15.94."""

SMALLEST_BUCKET_FRAMES = 64
LARGEST_BUCKET_FRAMES = 512
"""Shapes compiled by ``extract_fbank``: powers of two from the smallest to the largest; longer audio is split."""


def num_frames(num_samples: Size, spec: FbankSpec) -> Size:
    """Number of frames T that a waveform gives.

    Args:
      num_samples: length of the waveform, n.
      spec: the filterbank; with ``snip_edges`` only whole windows count, else one frame per hop (rounded).

    Returns:
      T, at least 0. (The extraction refuses less than one window, whatever ``snip_edges`` says.)
    """
    window, hop = window_and_hop(spec)
    if spec.snip_edges:
        return max(0, 1 + (num_samples - window) // hop)
    return (num_samples + hop // 2) // hop


def log_mel_fbank(
    waveform: Float[Array | np.ndarray, " n"], spec: FbankSpec, *, key: PRNGKeyArray | None = None
) -> Float[Array, "T F"]:
    """Log-mel filterbank frames of one waveform; jit with ``spec`` static, vmap over waveforms of one length.

    Args:
      waveform: float32 samples in [-1, 1] at ``spec.sample_rate_hz``, at least one window long.
      spec: the filterbank.
      key: source of the dither; required if ``spec.dither > 0``. Frame i draws from ``fold_in(key, i)``.

    Returns:
      Natural logarithms of power in 16-bit units, float32: the log energy first if ``spec.use_energy``, then the bands.

    Raises:
      UserError: the waveform is no array ``[n]`` of finite floating point numbers (values are not known under jit), it
        is shorter than one window, dither has no key, or there are too many mel bands for the spectrum.
    """
    _check_waveform(waveform)
    num_samples = waveform.shape[0]
    _check_length(num_samples, spec)
    if spec.dither > 0 and key is None:
        raise UserError(
            f"fbank.dither is {spec.dither} but log_mel_fbank got no key; pass key=jax.random.key(seed), "
            "or set dither to 0."
        )
    num = num_frames(num_samples, spec)
    if not spec.snip_edges:
        waveform = jnp.pad(waveform, _reflection(num_samples, spec), mode="symmetric")
    return _fbank_of_windows(jnp.asarray(waveform), jnp.arange(num), key, spec)


def extract_fbank(
    waveform: Float[np.ndarray, " n"], spec: FbankSpec, seed: int = 0, *, max_frames: int | None = None
) -> Float32[np.ndarray, "T F"]:
    """The same frames as ``log_mel_fbank``, for a loop over a corpus: few compilations, bounded memory.

    Frames do not depend on each other, so a waveform is cut into pieces of a few fixed lengths (the last one padded
    with zeros; their frames are dropped). 100,000 different lengths compile four programs.

    Args:
      waveform: samples in [-1, 1] at ``spec.sample_rate_hz``, at least one window long.
      spec: the filterbank.
      seed: of the dither; has no effect when ``spec.dither`` is 0.
      max_frames: of a longer waveform, compute only the middle frames, this many; None: all.

    Returns:
      The frames that ``log_mel_fbank(waveform, spec, key=jax.random.key(seed))`` returns.

    Raises:
      UserError: as ``log_mel_fbank``.
    """
    _check_waveform(waveform)
    _check_length(len(waveform), spec)
    total = num_frames(len(waveform), spec)
    window, hop = window_and_hop(spec)
    signal = np.asarray(waveform, np.float32)
    if not spec.snip_edges:
        signal = np.pad(signal, _reflection(len(waveform), spec), mode="symmetric")
    key = jax.random.key(seed) if spec.dither > 0 else None
    kept = total if max_frames is None else min(total, max_frames)
    start = (total - kept) // 2
    pieces = []
    for first in range(start, start + kept, LARGEST_BUCKET_FRAMES):
        wanted = min(LARGEST_BUCKET_FRAMES, start + kept - first)
        bucket = max(SMALLEST_BUCKET_FRAMES, 1 << (wanted - 1).bit_length())
        piece = np.zeros(window + (bucket - 1) * hop, np.float32)
        available = signal[first * hop : first * hop + len(piece)]
        piece[: len(available)] = available
        frames = np.arange(first, first + bucket)
        pieces.append((_jitted_fbank_of_windows(piece, frames, key, spec), wanted))
    return np.concatenate([np.asarray(fbank)[:wanted] for fbank, wanted in pieces])


def _fbank_of_windows(
    signal: Float[Array, " n"], frames: Int[Array, " T"], key: PRNGKeyArray | None, spec: FbankSpec
) -> Float[Array, "T F"]:
    """Features of windows that start at sample 0; ``frames`` are their numbers in the utterance, for the dither."""
    window, hop = window_and_hop(spec)
    starts = jnp.arange(frames.shape[0]) * hop
    scaled = signal * WAVEFORM_SCALE
    windows = jax.vmap(lambda start: jax.lax.dynamic_slice(scaled, (start,), (window,)))(starts)
    if key is not None:
        noise = jax.vmap(lambda frame: jax.random.normal(jax.random.fold_in(key, frame), (window,)))(frames)
        windows = windows + spec.dither * noise
    return fbank_of_windows(windows, spec, _power_spectrum)


def fbank_of_windows(
    windows: Float[Array, "T window"],
    spec: FbankSpec,
    power_spectrum: Callable[[Float[Array, "T window"], int], Float[Array, "T bins"]],
) -> Float[Array, "T F"]:
    """Features of windows of samples in 16-bit units, with or without dither.

    Args:
      windows: samples of each frame.
      spec: the filterbank.
      power_spectrum: gives the squared magnitudes of a discrete Fourier transform of the second argument's size.

    Returns:
      As ``log_mel_fbank``.
    """
    # After the dither and before the energy: Kaldi's order, on which the last digits depend.
    windows = windows - jnp.mean(windows, axis=1, keepdims=True)
    energy = jnp.sum(windows**2, axis=1, keepdims=True)

    first, others = (jax.lax.slice_in_dim(windows, 0, end, axis=1) for end in (1, -1))
    previous = jnp.concatenate([first, others], axis=1)
    shaped = (windows - spec.preemphasis * previous) * _window_function(spec)[None]
    power = power_spectrum(shaped, _fft_size(spec))
    # The default precision of TPUs and GPUs would round powers to 8 or 10 bits, which the logarithm shows in weak
    # bands.
    mel = jnp.matmul(power, _mel_filters(spec), precision=jax.lax.Precision.HIGHEST)

    features = jnp.concatenate([energy, mel], axis=1) if spec.use_energy else mel
    return jnp.log(jnp.maximum(features, FLOOR))


def _power_spectrum(frames: Float[Array, "T window"], fft_size: int) -> Float[Array, "T bins"]:
    spectrum = jnp.fft.rfft(frames, n=fft_size, axis=1)
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


_jitted_fbank_of_windows = jax.jit(_fbank_of_windows, static_argnames="spec")


def _check_waveform(waveform: Any) -> None:
    """Refuses what would give frames without meaning. The values of a traced waveform are not known here."""
    if not isinstance(waveform, (np.ndarray, Array)):
        raise UserError(f"The waveform must be an array of samples, not a {type(waveform).__name__}: np.asarray(it).")
    if waveform.ndim != 1:
        raise UserError(
            f"The waveform must have one dimension, its samples, but its shape is {waveform.shape}. Take one channel, "
            "or jax.vmap over waveforms of one length."
        )
    if not jnp.issubdtype(waveform.dtype, jnp.floating):
        raise UserError(
            f"The waveform must hold floating point numbers in [-1, 1], but its type is {waveform.dtype}. Divide "
            "16-bit samples by 32768."
        )
    if not isinstance(waveform, Tracer) and not (finite := np.isfinite(np.asarray(waveform))).all():
        raise UserError(f"Sample {finite.argmin()} of the waveform is {waveform[finite.argmin()]}; all must be finite.")


def _check_length(num_samples: int, spec: FbankSpec) -> None:
    window, _ = window_and_hop(spec)
    if num_samples < window:
        raise UserError(
            f"The audio is {1000 * num_samples / spec.sample_rate_hz:g} ms long ({num_samples} samples at "
            f"{spec.sample_rate_hz} Hz), shorter than one analysis window; the minimum is {spec.frame_length_ms:g} ms "
            f"({window} samples). Leave the clip out or take a longer one."
        )


def window_and_hop(spec: FbankSpec) -> tuple[int, int]:
    """Window length and hop in samples, cut to whole samples as in Kaldi."""
    window = int(spec.sample_rate_hz * spec.frame_length_ms / 1000)
    hop = int(spec.sample_rate_hz * spec.frame_shift_ms / 1000)
    return window, hop


def _fft_size(spec: FbankSpec) -> int:
    return 1 << (window_and_hop(spec)[0] - 1).bit_length()


def _reflection(num_samples: int, spec: FbankSpec) -> tuple[int, int]:
    """Samples to reflect before and after the signal when frames are centred on multiples of the hop (plus half)."""
    window, hop = window_and_hop(spec)
    before = window // 2 - hop // 2
    end_of_last = (num_frames(num_samples, spec) - 1) * hop - before + window
    return before, max(0, end_of_last - num_samples)


def _window_function(spec: FbankSpec) -> Float32[np.ndarray, " window"]:
    length = window_and_hop(spec)[0]
    phase = 2 * np.pi * np.arange(length) / (length - 1)
    if spec.window == "povey":
        return ((0.5 - 0.5 * np.cos(phase)) ** 0.85).astype(np.float32)
    return (0.54 - 0.46 * np.cos(phase)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _mel_filters(spec: FbankSpec) -> Float32[np.ndarray, "bins F"]:
    """Triangles that are linear on the mel scale; the bin at Nyquist has weight zero, as in Kaldi."""
    bin_mel = _mel(np.arange(_fft_size(spec) // 2) * spec.sample_rate_hz / _fft_size(spec))
    low_mel, high_mel = _mel(np.array([spec.low_hz, spec.highest_hz]))
    edges = np.linspace(low_mel, high_mel, spec.num_mel_bins + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bin_mel[None] - left) / (centre - left)
    falling = (right - bin_mel[None]) / (right - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    covered = weights.any(axis=1)
    if not covered.all():
        raise UserError(
            f"fbank.num_mel_bins={spec.num_mel_bins} is too many: band {covered.argmin()} covers no bin of the "
            f"{_fft_size(spec)}-point spectrum. Take fewer bands or a longer fbank.frame_length_ms."
        )
    return np.pad(weights, ((0, 0), (0, 1))).T.astype(np.float32)


def _mel(hz: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return 1127.0 * np.log1p(hz / 700.0)
