"""A plain speaker network in PyTorch, the peer of ``real_speech_race.py``.

A TDNN of 0.3 million parameters with statistics pooling, AM-softmax (margin 0.2, scale 30), AdamW with the one-cycle
schedule, and batches that draw speakers with equal probability. As ours, it subtracts the mean embedding of training
utterances. Reads and writes NumPy files, and needs torch, numpy and click. The file of utterances holds
``frames [n,F]``, ``end [N]`` (where each utterance ends) and ``speaker [N]``; the output ``vectors [N,E]``, and some
training utterances as ``cohort [n,E]`` with ``cohort_speaker [n]``, for score normalisation.

    python benchmarks/torch_tdnn.py TRAIN.npz EVALUATE.npz OUTPUT.npz --steps 3000
"""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

EMBEDDING_DIM, SCALE, MARGIN = 128, 30.0, 0.2
BATCH, CROP, PEAK_RATE = 96, 200, 3e-3
LAYERS = ((128, 5, 1), (128, 3, 2), (128, 3, 3), (128, 1, 1), (384, 1, 1))  # channels, taps, dilation
MAX_FRAMES = 1200  # of an utterance that is embedded
CENTRED_BY = 2000  # evenly spaced training utterances, whose mean embedding is subtracted
FILE = click.Path(path_type=Path, dir_okay=False)


class Tdnn(nn.Module):
    """Convolutions over time, mean and standard deviation, one linear layer."""

    def __init__(self, bands: int) -> None:
        """Make the layers."""
        super().__init__()
        frames, before = [], bands
        for channels, taps, dilation in LAYERS:
            conv = nn.Conv1d(before, channels, taps, dilation=dilation, padding=dilation * (taps // 2))
            frames += [conv, nn.ReLU(), nn.BatchNorm1d(channels)]
            before = channels
        self.frames = nn.Sequential(*frames)
        self.embedding = nn.Sequential(nn.BatchNorm1d(2 * before), nn.Linear(2 * before, EMBEDDING_DIM))

    def forward(self, fbank: Tensor) -> Tensor:
        """``[B,T,F]`` to ``[B,E]``."""
        x = self.frames(fbank.transpose(1, 2))
        deviation = (x.var(2, unbiased=False) + 1e-5).sqrt()
        return self.embedding(torch.cat([x.mean(2), deviation], 1))


class Utterances:
    """Utterances of a file; each loses its mean over time where it is read."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        stored = np.load(path)
        self.frames, self.end, self.speaker = (stored[name] for name in ("frames", "end", "speaker"))
        self.start = np.concatenate([[0], self.end[:-1]])

    def whole(self, index: int) -> np.ndarray:
        """The first part of an utterance, ``[T,F]``."""
        return self._normalized(self.start[index], min(self.end[index], self.start[index] + MAX_FRAMES))

    def crop(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """A random part, ``[CROP,F]``; shorter utterances are repeated."""
        spare = self.end[index] - self.start[index] - CROP
        if spare < 0:
            return np.resize(self.whole(index), (CROP, self.frames.shape[1]))
        start = self.start[index] + rng.integers(spare + 1)
        return self._normalized(start, start + CROP)

    def _normalized(self, start: int, end: int) -> np.ndarray:
        frames = self.frames[start:end].astype(np.float32)
        return frames - frames.mean(0)


@click.command(context_settings={"show_default": True})
@click.argument("train", type=FILE)
@click.argument("evaluate", type=FILE)
@click.argument("output", type=FILE)
@click.option("--steps", type=click.IntRange(1), default=3000, help="Training steps.")
@click.option("--seed", default=0, help="Seed of initial values and batches.")
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads of PyTorch.")
def main(train: Path, evaluate: Path, output: Path, steps: int, seed: int, threads: int) -> None:
    """Train on TRAIN, then embed EVALUATE into OUTPUT, with the seconds per step."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    utterances, rng = Utterances(train), np.random.default_rng(seed)
    speakers = int(utterances.speaker.max()) + 1
    own = [np.flatnonzero(utterances.speaker == speaker) for speaker in range(speakers)]
    net = Tdnn(utterances.frames.shape[1])
    # Adam turns a long prototype slowly: of length 11 (torch.randn) instead of 0.6, they cost six points of EER.
    head = nn.Parameter(nn.init.xavier_normal_(torch.empty(speakers, EMBEDDING_DIM)))
    parameters = [*net.parameters(), head]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    times = []
    for step in range(steps):
        started = time.perf_counter()
        chosen = rng.integers(speakers, size=BATCH)
        batch = torch.from_numpy(np.stack([utterances.crop(rng.choice(own[speaker]), rng) for speaker in chosen]))
        label = torch.from_numpy(chosen)
        cosine = functional.normalize(net(batch)) @ functional.normalize(head).T
        logits = SCALE * (cosine - MARGIN * functional.one_hot(label, speakers))
        loss = functional.cross_entropy(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        times.append(time.perf_counter() - started)
        if step % 200 == 199:
            accuracy = float((cosine.argmax(1) == label).float().mean())
            print(f"step {step + 1}: loss {float(loss):.3f}, accuracy {accuracy:.2f}", file=sys.stderr, flush=True)
    listed = Utterances(evaluate)
    trained_on = np.linspace(0, len(utterances.end) - 1, CENTRED_BY).astype(int)
    cohort = embed(net, utterances, trained_on)
    mean = cohort.mean(0)
    vectors = embed(net, listed, range(len(listed.end))) - mean
    parameters = sum(parameter.numel() for parameter in net.parameters())
    of_cohort = {"cohort": cohort - mean, "cohort_speaker": utterances.speaker[trained_on]}
    np.savez(output, vectors=vectors, **of_cohort, seconds_per_step=np.median(times), parameters=parameters)


def embed(net: Tdnn, utterances: Utterances, chosen: Iterable[int]) -> np.ndarray:
    """Whole utterances, one by one: ``[N,E]``."""
    net.eval()
    with torch.no_grad():
        return np.stack([net(torch.from_numpy(utterances.whole(i))[None])[0].numpy() for i in chosen])


if __name__ == "__main__":
    main()
