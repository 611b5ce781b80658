"""The contenders of ``fbank.py``. Ours needs this package; the others need only NumPy, click and their library."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from race import serve

RATE_HZ, NUM_MEL_BINS, LOW_HZ, FULL_SCALE = 16_000, 80, 20.0, 32768.0
Way = Callable[[np.ndarray], np.ndarray]  # [N, n] to [N, T, F]


def extracting() -> Way:
    """``extract_fbank`` as data preparation calls it: utterances of any length, in pieces of few shapes."""
    from mqmha_jax.config import FbankSpec
    from mqmha_jax.features.fbank import extract_fbank

    spec = FbankSpec()
    return lambda waveforms: np.stack([extract_fbank(waveform, spec) for waveform in waveforms])


def jitted() -> Way:
    """``log_mel_fbank`` in jit, one utterance after another."""
    import jax

    from mqmha_jax.config import FbankSpec
    from mqmha_jax.features.fbank import log_mel_fbank

    one = jax.jit(log_mel_fbank, static_argnames="spec")
    spec = FbankSpec()
    return lambda waveforms: np.stack([np.asarray(one(waveform, spec)) for waveform in waveforms])


def batched(batch_size: int = 16) -> Way:
    """``log_mel_fbank`` over batches, by vmap."""
    import jax

    from mqmha_jax.config import FbankSpec
    from mqmha_jax.features.fbank import log_mel_fbank

    many = jax.jit(jax.vmap(lambda waveform: log_mel_fbank(waveform, FbankSpec())))

    def way(waveforms: np.ndarray) -> np.ndarray:
        batches = np.split(waveforms, range(batch_size, len(waveforms), batch_size))
        return np.concatenate([np.asarray(many(batch)) for batch in batches])

    return way


def kaldi() -> Way:
    """kaldi-native-fbank, Kaldi's C++ code."""
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = NUM_MEL_BINS
    options.mel_opts.low_freq = LOW_HZ

    def one(waveform: np.ndarray) -> np.ndarray:
        fbank = kaldi_native_fbank.OnlineFbank(options)
        fbank.accept_waveform(RATE_HZ, (waveform * np.float32(FULL_SCALE)).tolist())
        fbank.input_finished()
        return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])

    return lambda waveforms: np.stack([one(waveform) for waveform in waveforms])


def torchaudio() -> Way:
    """``torchaudio.compliance.kaldi.fbank``."""
    import torch
    from torchaudio.compliance.kaldi import fbank

    options = {"num_mel_bins": NUM_MEL_BINS, "low_freq": LOW_HZ, "window_type": "hamming", "dither": 0.0}

    def one(waveform: np.ndarray) -> np.ndarray:
        return fbank(torch.from_numpy(waveform * np.float32(FULL_SCALE))[None], **options).numpy()

    return lambda waveforms: np.stack([one(waveform) for waveform in waveforms])


WAYS: dict[str, Callable[[], Way]] = {way.__name__: way for way in (extracting, jitted, batched, kaldi, torchaudio)}


@click.command()
@click.argument("way", type=click.Choice(tuple(WAYS)))
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--one-core", is_flag=True, help="Use one core only.")
def main(way: str, folder: Path, one_core: bool) -> None:
    """Save the filterbanks that WAY computes from the waveforms in FOLDER, then take turns."""
    if one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with contextlib.suppress(ImportError):  # PyTorch counts all cores of the machine, allowed or not
            __import__("torch").set_num_threads(1)
    waveforms = np.load(folder / "waveforms.npy")
    make = WAYS[way]()
    make(waveforms[:1])  # compiles; the first call below compiles for the last batch
    serve(lambda: make(waveforms), lambda fbanks: np.save(folder / f"{way}.npy", fbanks), {})


if __name__ == "__main__":
    main()
