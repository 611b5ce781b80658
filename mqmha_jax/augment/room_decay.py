"""Computes the decay of the power in each mel band, frame by frame, from the impulse response of a room."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError
from mqmha_jax.features.fbank import log_mel_fbank, window_and_hop

RESPONSES_AT_ONCE = 64


def room_decays(
    responses: list[Float[np.ndarray, " _"]], spec: FbankSpec, *, num_frames: int
) -> Float32[np.ndarray, "R L F"]:
    """Computes the energy decay of rooms, for ``mel_power.reverberate``.

    The response is cut into pieces of two hops, one hop apart, under windows whose squares add up to one, the first
    centred on the direct path. The power of each piece is measured in every mel band. So two frames share an echo
    between them, and the colour of the early response stays.

    Args:
      responses: R impulse responses at ``spec.sample_rate_hz``; the largest sample of each is its direct path.
      spec: filterbank of the speech.
      num_frames: L, frames of decay to keep; later ones are cut off.

    Returns:
      Natural logarithms of power, 0 in frame 0 for a room that changes nothing; the sum of powers over frames, averaged
      over frequency, is 1. With ``spec.use_energy`` the first column is the decay of all bands together.

    Raises:
      UserError: all samples of a response are 0.
    """
    _, hop = window_and_hop(spec)
    signals = np.stack([_from_direct_path(response, hop, num_frames) for response in responses])
    unit = _band_powers(_from_direct_path(np.ones(1), hop, num_frames)[None], spec)  # [1, L, bands]
    decays = []
    for first in range(0, len(signals), RESPONSES_AT_ONCE):
        batch = signals[first : first + RESPONSES_AT_ONCE]
        full = np.zeros((RESPONSES_AT_ONCE, signals.shape[1]), np.float32)  # one shape, compiled once
        full[: len(batch)] = batch
        powers = np.asarray(_band_powers(full, spec))[: len(batch)]
        total = powers.sum(axis=2, keepdims=True) / unit.sum()  # mel filters add up to one over frequency
        bands = powers / unit.sum(axis=1, keepdims=True)
        both = np.concatenate([total, bands], axis=2) if spec.use_energy else bands
        decays.append(both / total.sum(axis=1, keepdims=True))
    return np.log(np.maximum(np.concatenate(decays), np.finfo(np.float32).tiny))


def _from_direct_path(response: Float[np.ndarray, " _"], hop: int, num_frames: int) -> Float32[np.ndarray, " n"]:
    """Cuts from one hop before the direct path to L hops after it, and scales the largest sample to 1."""
    if not np.any(response):
        raise UserError("A room response is empty or all zeros; leave the file out of the list of rooms.")
    direct = int(np.argmax(np.abs(response)))
    padded = np.pad(response, (hop, num_frames * hop))[direct : direct + (num_frames + 1) * hop]
    return (padded / np.abs(response[direct])).astype(np.float32)


@functools.partial(jax.jit, static_argnames="spec")
def _band_powers(signals: Float[Array, "R n"], spec: FbankSpec) -> Float[Array, "R L F"]:
    _, hop = window_and_hop(spec)
    pieces = dataclasses.replace(
        spec,
        frame_length_ms=1000 * (2 * hop + 0.5) / spec.sample_rate_hz,  # is cut to 2 hops; 2 shifts may be a sample more
        window="povey",
        preemphasis=0.0,
        use_energy=False,
        snip_edges=True,
        dither=0.0,
    )
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2 * hop) / (2 * hop - 1))) ** 0.85
    covered = window[:hop] ** 2 + window[hop:] ** 2  # sum of the squares of two neighbouring windows
    flat = signals / jnp.tile(jnp.sqrt(covered).astype(jnp.float32), signals.shape[1] // hop)[None]
    return jnp.exp(jax.vmap(lambda signal: log_mel_fbank(signal, pieces))(flat))
