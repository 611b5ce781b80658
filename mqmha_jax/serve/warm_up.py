"""Compiles the programs for the usual lengths of recordings in the background, while the server answers requests."""

import threading

import numpy as np

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.batch_plan import MAX_FRAMES, padded_lengths
from mqmha_jax.features.fbank import window_and_hop
from mqmha_jax.inference import SpeakerEncoder

SHORTEST_S, LONGEST_S = 1.0, 15.0
"""Usual durations of recordings."""


class WarmUp:
    """Embeds noise of every usual length, in a thread of its own."""

    def __init__(self, encoder: SpeakerEncoder) -> None:
        """Takes the network; does nothing yet."""
        self._encoder = encoder
        self._thread = threading.Thread(target=self._compile, name="warm-up")
        self._is_stopped = threading.Event()
        self.is_complete = False

    def start(self) -> None:
        """Begins with the middle of the usual lengths."""
        self._thread.start()

    def stop(self) -> None:
        """Returns after the program that is being compiled: a process that ends inside the compiler crashes."""
        self._is_stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _compile(self) -> None:
        noise = np.random.default_rng(0)
        for length in usual_lengths(self._encoder.config.fbank):
            if self._is_stopped.is_set():
                return
            waveform = (0.01 * noise.standard_normal(length)).astype(np.float32)
            self._encoder.embed(waveform, on_warning=lambda _: None)
        self.is_complete = True


def usual_lengths(spec: FbankSpec) -> list[int]:
    """Samples of recordings whose frames fill a padded length, from the middle of the usual durations outwards."""
    window, hop = window_and_hop(spec)
    seconds = {int(frames): frames * spec.frame_shift_ms / 1000 for frames in padded_lengths(MAX_FRAMES)}
    usual = [frames for frames, duration in seconds.items() if SHORTEST_S <= duration <= LONGEST_S]
    outwards = sorted(usual, key=lambda frames: abs(usual.index(frames) - len(usual) // 2))
    return [window + (frames - 1) * hop for frames in outwards]
