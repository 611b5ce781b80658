"""The dense PyTorch contender of ``head.py``; needs torch, numpy and click, but not our package."""

import json
from pathlib import Path

import click
import numpy as np
import torch
from head_size import SUB_CENTRES, HeadSize, draw_inputs, size_options
from race import available_bytes, serve
from torch import Tensor, nn
from torch_speaker_net import Head


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@size_options
def main(path: Path, **numbers: int) -> None:
    """Save the result at PATH, then take turns."""
    size = HeadSize(**numbers)
    on_gpu = torch.cuda.is_available()
    kind = torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads"
    opening = {"version": torch.__version__, "device": kind, "needs_bytes": estimate_bytes(size)}
    if opening["needs_bytes"] > (torch.cuda.mem_get_info()[0] if on_gpu else available_bytes()):
        print(json.dumps(opening))
        return
    embedding, prototypes, speaker = (
        torch.from_numpy(array).to("cuda" if on_gpu else "cpu") for array in draw_inputs(size, size.classes)
    )
    head = Head(1)
    head.prototypes = nn.Parameter(prototypes)
    embedding.requires_grad_()
    own = speaker.long()

    def work() -> tuple[Tensor, ...]:
        loss = head(embedding, own)
        result = (loss, *torch.autograd.grad(loss, (embedding, head.prototypes)))
        if on_gpu:
            torch.cuda.synchronize()
        return result

    def save(result: tuple[Tensor, ...]) -> None:
        loss, of_embedding, of_prototypes = result
        found = (loss, of_embedding, of_prototypes[own])
        np.savez(path, **{f"{i}": value.detach().cpu().numpy() for i, value in enumerate(found)})

    device_bytes = (lambda: (torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated())) if on_gpu else None
    serve(work, save, opening, device_bytes)


def estimate_bytes(size: HeadSize) -> int:
    """Estimates the memory that eager PyTorch holds at once, in float32.

    It holds the prototypes, their copy at unit length, the gradients of both and one temporary of that size; the
    cosines to all sub-centres and their gradient; and per class the maximum, its position (8 bytes), shift, logits,
    their softmax and the gradients.
    """
    per_class = 5 * SUB_CENTRES * size.embedding_dim + size.batch_size * (2 * SUB_CENTRES + 8)
    return 4 * size.classes * per_class


if __name__ == "__main__":
    main()
