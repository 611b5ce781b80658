"""The paper's network and loss in idiomatic PyTorch: ResNet34, MQMHA, sub-centres, inter-topK penalty.

Modules have the names of our parameters, so that one function (``load_flax``) copies all parameters. All frames are
valid, so there is no mask.
"""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = ((3, 1), (4, 2), (6, 2), (3, 2))  # blocks and stride of each
WIDTH, EMBEDDING_DIM = 32, 512
HEADS, QUERIES, VARIANCE_FLOOR = 16, 4, 1e-7
SUB_CENTRES, SCALE, MARGIN, TOP_K, PENALTY = 3, 36.0, 0.2, 5, 0.06


def conv_norm(channels_in: int, channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    """Convolution and batch normalisation."""
    conv = nn.Conv2d(channels_in, channels, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels)))


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        """Make the layers."""
        super().__init__()
        self.layer1 = conv_norm(channels_in, channels, 3, stride)
        self.layer2 = conv_norm(channels, channels, 3, 1)
        same = channels_in == channels and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(channels_in, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, F]`` to the same, strided."""
        return functional.relu(self.layer2(functional.relu(self.layer1(x))) + self.shortcut(x))


def resnet34() -> nn.Sequential:
    """``[B, 1, T, F]`` to ``[B, 256, T / 8, F / 8]``."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_norm(1, WIDTH, 3, 1), relu=nn.ReLU())
    channels_in = WIDTH
    for stage, (blocks, stride) in enumerate(STAGES, start=1):
        channels = WIDTH * 2 ** (stage - 1)
        for i in range(1, blocks + 1):
            layers[f"stage{stage}_block{i}"] = Block(channels_in, channels, stride if i == 1 else 1)
            channels_in = channels
    return nn.Sequential(layers)


class MQMHA(nn.Module):
    """Weighted means and standard deviations; one einsum does all queries and heads."""

    def __init__(self, channels: int) -> None:
        """Make the scorers."""
        super().__init__()
        head_dim = channels // HEADS
        self.score = nn.Parameter(torch.randn(QUERIES, HEADS, head_dim) * head_dim**-0.5)

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, t, D]`` to ``[B, 2 D Q]``."""
        frames = frames.unflatten(-1, (HEADS, -1))
        weights = torch.einsum("bthd,qhd->bqht", frames, self.score).softmax(-1)
        mean = torch.einsum("bqht,bthd->bqhd", weights, frames)
        square = torch.einsum("bqht,bthd->bqhd", weights, frames * frames)
        std = (square - mean * mean).clamp(min=VARIANCE_FLOOR).sqrt()
        return torch.stack([mean, std], dim=-2).flatten(1)


class Head(nn.Module):
    """Cosines to the nearest sub-centre, AM-softmax and the inter-topK penalty."""

    def __init__(self, classes: int) -> None:
        """Make the prototypes."""
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, SUB_CENTRES, EMBEDDING_DIM) * EMBEDDING_DIM**-0.5)

    def forward(self, embedding: Tensor, speaker: Tensor) -> Tensor:
        """``[B, E]`` and ``[B]`` to the mean loss."""
        prototypes = functional.normalize(self.prototypes, dim=-1).flatten(0, 1)
        cosine = (
            functional.linear(functional.normalize(embedding), prototypes)
            .unflatten(1, (-1, SUB_CENTRES))
            .max(-1)
            .values
        )
        target = speaker[:, None]
        nearest = cosine.detach().scatter(1, target, -torch.inf).topk(TOP_K, sorted=False).indices
        shift = torch.zeros_like(cosine).scatter_(1, nearest, PENALTY).scatter_(1, target, -MARGIN)
        return functional.cross_entropy(SCALE * (cosine + shift), speaker)


class SpeakerTask(nn.Module):
    """Computes the loss from filterbank frames and speakers; only the encoder uses ``dtype``."""

    def __init__(self, classes: int, bins: int, dtype: torch.dtype, layout: torch.memory_format) -> None:
        """Make network and head."""
        super().__init__()
        self.dtype, self.layout = dtype, layout
        channels = WIDTH * 8 * -(-bins // 8)
        self.encoder = resnet34()
        self.pooling = MQMHA(channels)
        self.embedding = nn.Linear(2 * channels * QUERIES, EMBEDDING_DIM)
        self.head = Head(classes)
        self.to(memory_format=layout)

    def forward(self, fbank: Tensor, speaker: Tensor) -> Tensor:
        """``[B, T, F]`` and ``[B]`` to the mean loss."""
        fbank = fbank.float()
        x = (fbank - fbank.mean(1, keepdim=True))[:, None].to(memory_format=self.layout)
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            x = self.encoder(x)
        frames = x.float().permute(0, 2, 1, 3).flatten(2)
        return self.head(self.embedding(self.pooling(frames)), speaker)


@torch.no_grad()
def load_flax(task: SpeakerTask, arrays: Mapping[str, np.ndarray]) -> None:
    """Copies all of our parameters into the PyTorch modules.

    Args:
      task: receives the parameters.
      arrays: parameters by path in our tree, such as ``encoder/stem/conv/kernel``.
    """
    moved = {}
    for path, array in arrays.items():
        *modules, leaf = path.split("/")
        if modules == ["pooling", "score"]:
            moved["pooling.score"] = array[..., 0]
        elif leaf == "kernel":
            moved[".".join([*modules, "weight"])] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        else:
            moved[".".join([*modules, {"scale": "weight"}.get(leaf, leaf)])] = array
    parameters = dict(task.named_parameters())
    if parameters.keys() != moved.keys():
        raise KeyError(f"Parameters of one side only: {sorted(parameters.keys() ^ moved.keys())}")
    for name, parameter in parameters.items():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(moved[name])).reshape(parameter.shape))
