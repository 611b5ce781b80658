"""Makes fbank.npz: Kaldi's filterbank of a synthetic signal, by kaldi-native-fbank 1.23.0.

pip install kaldi-native-fbank==1.23.0 numpy
python tests/reference/make_fbank.py
"""

import json
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np

# Names as in FbankSpec.
SPECS = [
    {"window": "povey", "num_mel_bins": 80},
    {"window": "hamming", "num_mel_bins": 80},
    {"window": "povey", "num_mel_bins": 40},
    {"window": "povey", "num_mel_bins": 80, "low_hz": 40.0, "high_hz": -200.0, "use_energy": True},
    {"window": "hamming", "num_mel_bins": 80, "snip_edges": False},
]


def make_waveform() -> np.ndarray:
    """Makes 0.5 s of pulses and noise with 0.1 s of digital silence. The length is not a multiple of the hop."""
    rng = np.random.default_rng(0)
    waveform = 0.01 * rng.standard_normal(8_017)
    waveform[::123] += 0.4
    waveform[5_000:6_600] = 0
    return waveform.astype(np.float32)


def compute(waveform: np.ndarray, spec: dict) -> np.ndarray:
    """Returns the log-mel frames ``[T, F]``."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = spec["window"]
    options.frame_opts.snip_edges = spec.get("snip_edges", True)
    options.mel_opts.num_bins = spec["num_mel_bins"]
    options.mel_opts.low_freq = spec.get("low_hz", 20.0)
    options.mel_opts.high_freq = spec.get("high_hz", 0.0)
    options.use_energy = spec.get("use_energy", False)
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(16_000, (waveform * 32768).tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(frame) for frame in range(fbank.num_frames_ready)])


waveform = make_waveform()
arrays = {"wave": waveform, "specs": json.dumps(SPECS)}
np.savez_compressed(
    Path(__file__).with_name("fbank.npz"),
    **arrays | {f"fbank/{number}": compute(waveform, spec) for number, spec in enumerate(SPECS)},
)
