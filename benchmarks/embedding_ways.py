"""The contenders of ``embedding_speed.py``: from audio files to vectors. Each imports only libraries of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from fbank_ways import kaldi
from race import serve

Way = Callable[[], np.ndarray]  # to [N, E]


def together(folder: Path, files: list[str]) -> Way:
    """Ours, all files in one call."""
    from mqmha_jax.inference import SpeakerEncoder

    encoder = SpeakerEncoder.load(folder / "run")
    return lambda: encoder.embed(files, on_warning=lambda _: None).vectors


def single(folder: Path, files: list[str]) -> Way:
    """Ours, one call for each file."""
    from mqmha_jax.inference import SpeakerEncoder

    encoder = SpeakerEncoder.load(folder / "run")
    return lambda: np.concatenate([encoder.embed(file, on_warning=lambda _: None).vectors for file in files])


def reading(folder: Path, files: list[str]) -> Way:
    """The part of ours before the network: decoding, filterbank, evidence of speech. Gives lengths, not vectors."""
    from mqmha_jax.evaluation.embeddings.recordings import map_ahead, read_utterance
    from mqmha_jax.runs.workdir import read_config

    spec = read_config(folder / "run").fbank
    return lambda: np.array([[len(found.fbank)] for found in map_ahead(lambda file: read_utterance(file, spec), files)])


def onnx(folder: Path, files: list[str]) -> Way:
    """ONNX Runtime with the network as ``mqmha export`` writes it, from waveforms."""
    import onnxruntime
    import soundfile

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / "net.onnx", options)

    def embed(file: str) -> np.ndarray:
        return session.run(None, {"waveform": soundfile.read(file, dtype="float32")[0][None]})[0]

    return lambda: np.concatenate([embed(file) for file in files])


def torch(folder: Path, files: list[str]) -> Way:
    """PyTorch with kaldi-native-fbank, one file after another, as is usual in the field."""
    import soundfile
    import torch
    from torch_speaker_net import SpeakerNet, load_flax

    settings = json.loads((folder / "settings.json").read_text())
    bins = settings["fbank"]["num_mel_bins"]
    net = SpeakerNet(settings["model"], bins, torch.float32, torch.channels_last).eval()
    load_flax(net, np.load(folder / "arrays.npz"))
    to_fbank = kaldi()

    @torch.inference_mode()
    def embed(file: str) -> np.ndarray:
        fbank = torch.from_numpy(to_fbank(soundfile.read(file, dtype="float32")[0][None]))
        return net.embed(fbank - fbank.mean(1, keepdim=True)).numpy()

    return lambda: np.concatenate([embed(file) for file in files])


WAYS = {way.__name__: way for way in (together, single, reading, onnx, torch)}


@click.command()
@click.argument("way", type=click.Choice(tuple(WAYS)))
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("result", type=click.Path(path_type=Path))
def main(way: str, folder: Path, result: Path) -> None:
    """Embed the files of FOLDER/files.json, save the vectors as RESULT, then take turns."""
    work = WAYS[way](folder, json.loads((folder / "files.json").read_text()))
    serve(work, lambda vectors: np.save(result, vectors), {})


if __name__ == "__main__":
    main()
