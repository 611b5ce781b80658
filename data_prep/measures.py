"""Measures of a waveform, stored with its frames: for sampling, for quality measures and to find bad audio."""

import numpy as np
from jaxtyping import Float

from mqmha_jax.features.speech_evidence import FULL_SCALE

WINDOW_MS = 20
"""Length of the windows that give the level over time."""

NOISE_PERCENTILE, SPEECH_PERCENTILE = 10, 95
SILENCE_DB = 40.0
"""A window this far below the loud ones is silent."""

LARGEST_SNR_DB = 100.0
"""Digital silence between words would make the ratio infinite."""


def waveform_measures(waveform: Float[np.ndarray, " n"], sample_rate_hz: int) -> dict[str, float]:
    """Measures one utterance, for the table of the shards.

    ``snr_db`` is blind, similar to NIST's program ``stnr`` (Speech Quality Assurance package, SPQA 2.3, 1993): speech
    plus noise is the 95th percentile of the windows' powers, as in ``stnr``; noise is the 10th percentile, where
    ``stnr`` fits the lower peak of the histogram. It is too low for speech without pauses, so use it to rank
    recordings, not as an exact value.

    Args:
      waveform: samples, full scale is 1.
      sample_rate_hz: of the samples.

    Returns:
      ``seconds``; ``power``, the mean square of the samples; ``snr_db``, between 0 and 100; ``clipped_share``, the
      share of samples at full scale; ``silence_share``, the share of windows 40 dB below the 95th percentile or
      exactly zero.
    """
    window = max(1, sample_rate_hz * WINDOW_MS // 1000)
    num_windows = max(1, len(waveform) // window)
    squares = np.square(waveform)
    powers = squares[: num_windows * window].reshape(num_windows, -1).mean(axis=1, dtype=np.float64)
    noise, loud = np.percentile(powers, (NOISE_PERCENTILE, SPEECH_PERCENTILE))
    speech_to_noise = (loud - noise) / noise if noise > 0 else np.inf if loud > 0 else 0.0
    smallest, largest = 1.0, 10 ** (LARGEST_SNR_DB / 10)
    return {
        "seconds": len(waveform) / sample_rate_hz,
        "power": float(squares.mean(dtype=np.float64)),
        "snr_db": float(10 * np.log10(np.clip(speech_to_noise, smallest, largest))),
        "clipped_share": float(np.mean(np.abs(waveform) >= FULL_SCALE)),
        "silence_share": float(np.mean(powers <= loud * 10 ** (-SILENCE_DB / 10))),
    }
