"""The PyTorch contenders of ``pooling.py``; needs torch, numpy and click, but not our package."""

from pathlib import Path

import click
import numpy as np
import torch
from race import serve
from torch import Tensor, nn
from torch_speaker_net import HEADS, MQMHA, QUERIES, VARIANCE_FLOOR


class Loop(nn.Module):
    """One query and head after another, as the published descriptions read."""

    def __init__(self, channels: int) -> None:
        """Make the scorers."""
        super().__init__()
        self.score = nn.Parameter(torch.empty(QUERIES, HEADS, channels // HEADS))

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, t, D]`` to ``[B, 2 D Q]``."""
        statistics = []
        for query in range(QUERIES):
            for head, part in enumerate(frames.chunk(HEADS, dim=2)):
                weights = torch.softmax(part @ self.score[query, head], dim=1).unsqueeze(-1)
                mean = (weights * part).sum(dim=1)
                variance = (weights * part**2).sum(dim=1) - mean**2
                statistics += [mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()]
        return torch.cat(statistics, dim=1)


WAYS = {"loop": Loop, "einsum": MQMHA}


@click.command()
@click.argument("way", type=click.Choice(tuple(WAYS)))
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("name")
@click.option("--compile", "compiled", is_flag=True, help="Use torch.compile.")
def main(way: str, folder: Path, name: str, compiled: bool) -> None:
    """Save the result of WAY on the task in FOLDER as NAME, then take turns."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = np.load(folder / "task.npz")
    frames, scorers, gradient = (torch.from_numpy(task[key]).to(device) for key in ("frames", "scorers", "gradient"))
    frames.requires_grad_()
    module = WAYS[way](frames.shape[2]).to(device)
    with torch.no_grad():
        module.score.copy_(scorers)
    pool = torch.compile(module) if compiled else module

    def work() -> tuple[Tensor, ...]:
        pooled = pool(frames)
        result = (pooled, *torch.autograd.grad(pooled, (frames, module.score), gradient))
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    def save(result: tuple[Tensor, ...]) -> None:
        pooled, of_frames, of_scorers = (value.detach().cpu().numpy() for value in result)
        np.savez(folder / name, pooled=pooled, frames=of_frames, scorers=of_scorers)

    kind = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    serve(work, save, {"version": torch.__version__, "device": kind})


if __name__ == "__main__":
    main()
