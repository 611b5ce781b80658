"""The networks of ``train_step.py`` in idiomatic PyTorch: an encoder, MQMHA, sub-centres, inter-topK penalty.

Sizes come from the sections ``model`` and ``loss`` of our configuration, as dictionaries. Modules have the names of our
parameters, so that one function (``load_flax``) copies all parameters. All frames are valid, so there is no mask.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = ((3, 1), (4, 2), (6, 2), (3, 2))  # blocks and stride of each
HEADS, QUERIES, VARIANCE_FLOOR = 16, 4, 1e-7  # the paper's pooling
PAPER_LOSS = {"sub_centres": 3, "scale": 36.0, "margin": 0.2, "top_k": 5, "penalty": 0.06}


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


class ResNet34(nn.Sequential):
    """Residual maps over time and frequency."""

    def __init__(self, bins: int, layout: torch.memory_format, width: int = 32) -> None:
        """Make the layers."""
        layers: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_norm(1, width, 3, 1), relu=nn.ReLU())
        channels_in = width
        for stage, (blocks, stride) in enumerate(STAGES, start=1):
            channels = width * 2 ** (stage - 1)
            for i in range(1, blocks + 1):
                layers[f"stage{stage}_block{i}"] = Block(channels_in, channels, stride if i == 1 else 1)
                channels_in = channels
        super().__init__(layers)
        self.layout, self.channels = layout, width * 8 * -(-bins // 8)
        self.to(memory_format=layout)

    def forward(self, fbank: Tensor) -> Tensor:
        """``[B, T, F]`` to ``[B, T / 8, D]``."""
        return super().forward(fbank[:, None].to(memory_format=self.layout)).permute(0, 2, 1, 3).flatten(2)


class TDNN(nn.Module):
    """Convolutions over time, each with ReLU and batch normalisation."""

    def __init__(
        self,
        bins: int,
        layout: torch.memory_format,
        channels: int = 512,
        final_channels: int = 1500,
        kernel_sizes: tuple[int, ...] = (5, 3, 3, 1, 1),
        dilations: tuple[int, ...] = (1, 2, 3, 1, 1),
        strides: tuple[int, ...] = (1, 1, 1, 1, 1),
    ) -> None:
        """Make the layers; the layout concerns maps over time and frequency alone."""
        super().__init__()
        self.channels = final_channels
        widths = [*[channels] * (len(kernel_sizes) - 1), final_channels]
        layers = zip([bins, *widths], widths, kernel_sizes, strides, dilations, strict=False)
        for i, (before, width, size, stride, dilation) in enumerate(layers, start=1):
            affine = nn.Conv1d(before, width, size, stride, size // 2 * dilation, dilation)
            self.add_module(f"layer{i}", nn.ModuleDict({"affine": affine, "norm": nn.BatchNorm1d(width)}))

    def forward(self, fbank: Tensor) -> Tensor:
        """``[B, T, F]`` to ``[B, T / stride, D]``."""
        x = fbank.transpose(1, 2)
        for layer in self.children():
            x = layer["norm"](functional.relu(layer["affine"](x)))
        return x.transpose(1, 2)


ENCODERS = {"resnet34": ResNet34, "tdnn": TDNN}


class MQMHA(nn.Module):
    """Weighted means and standard deviations; one einsum does all queries and heads."""

    def __init__(self, channels: int, heads: int = HEADS, queries: int = QUERIES, layers: int = 1) -> None:
        """Make the scorers."""
        super().__init__()
        if layers != 1:
            raise ValueError("This MQMHA has scorers of one layer.")
        self.heads = heads
        head_dim, self.size = channels // heads, 2 * queries * channels
        self.score = nn.Parameter(torch.randn(queries, heads, head_dim) * head_dim**-0.5)

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, t, D]`` to ``[B, 2 D Q]``."""
        frames = frames.unflatten(-1, (self.heads, -1))
        weights = torch.einsum("bthd,qhd->bqht", frames, self.score).softmax(-1)
        mean = torch.einsum("bqht,bthd->bqhd", weights, frames)
        square = torch.einsum("bqht,bthd->bqhd", weights, frames * frames)
        std = (square - mean * mean).clamp(min=VARIANCE_FLOOR).sqrt()
        return torch.stack([mean, std], dim=-2).flatten(1)


class TSTP(nn.Module):
    """Means and unbiased standard deviations."""

    def __init__(self, channels: int, variance_offset: float = 1e-7) -> None:
        """No parameters."""
        super().__init__()
        self.size, self.variance_offset = 2 * channels, variance_offset

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, t, D]`` to ``[B, 2 D]``."""
        return torch.cat([frames.mean(1), (frames.var(1) + self.variance_offset).sqrt()], 1)


POOLINGS = {"mqmha": MQMHA, "tstp": TSTP}


class AngularPrototypical(nn.Module):
    """Each speaker's last utterance against the centroids of all speakers' other utterances."""

    def __init__(self, each: int, share: float, scale: float = 10.0, offset: float = -5.0) -> None:
        """Make the learned scalars; ``each`` is the number of a speaker's utterances, in adjacent rows."""
        super().__init__()
        self.each, self.share = each, share
        self.weight, self.offset = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(offset))

    def forward(self, embedding: Tensor) -> Tensor:
        """``[B, E]`` to the mean loss over speakers, times its share of the sum."""
        unit = functional.normalize(embedding).unflatten(0, (-1, self.each))
        centroids = functional.normalize(unit[:, :-1].mean(1))
        logits = self.weight.clamp(min=1e-6) * functional.linear(unit[:, -1], centroids) + self.offset
        return self.share * functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


PAIRS = {"angular_prototypical": AngularPrototypical}


class Head(nn.Module):
    """Cosines to the nearest sub-centre, AM-softmax and the inter-topK penalty; beside it losses over pairs."""

    def __init__(
        self,
        classes: int,
        embedding_dim: int = 512,
        loss: Mapping[str, Any] = PAPER_LOSS,
        utterances_per_speaker: int = 1,
    ) -> None:
        """Make the prototypes."""
        super().__init__()
        self.loss = loss
        for term in loss.get("pairs", ()):
            pair_loss = PAIRS[term["name"]](utterances_per_speaker, term["weight"], **term["options"])
            self.add_module(term["name"], pair_loss)
        shape = (classes, loss["sub_centres"], embedding_dim)
        self.prototypes = nn.Parameter(torch.randn(shape) * embedding_dim**-0.5)

    def forward(self, embedding: Tensor, speaker: Tensor) -> Tensor:
        """``[B, E]`` and ``[B]`` to the mean loss."""
        prototypes = functional.normalize(self.prototypes, dim=-1).flatten(0, 1)
        cosine = functional.linear(functional.normalize(embedding), prototypes)
        if self.loss["sub_centres"] > 1:
            cosine = cosine.unflatten(1, (-1, self.loss["sub_centres"])).max(-1).values
        target = speaker[:, None]
        others = cosine.detach().scatter(1, target, -torch.inf)
        nearest = others.topk(self.loss["top_k"], sorted=False).indices
        shift = torch.zeros_like(cosine).scatter_(1, nearest, self.loss["penalty"])
        shift = shift.scatter_(1, target, -self.loss["margin"])
        loss = functional.cross_entropy(self.loss["scale"] * (cosine + shift), speaker)
        for pair_loss in self.children():
            loss = loss + pair_loss(embedding)
        return loss


class SpeakerNet(nn.Module):
    """Embeds filterbank frames; only the encoder uses ``dtype``."""

    def __init__(self, model: Mapping[str, Any], bins: int, dtype: torch.dtype, layout: torch.memory_format) -> None:
        """Make the layers of our section ``model``."""
        super().__init__()
        self.dtype = dtype
        self.encoder = ENCODERS[model["encoder"]["name"]](bins, layout, **model["encoder"]["options"])
        self.pooling = POOLINGS[model["pooling"]["name"]](self.encoder.channels, **model["pooling"]["options"])
        if model["normalize_pooled"]:
            self.pooled_norm = nn.BatchNorm1d(self.pooling.size)
        self.embedding = nn.Linear(self.pooling.size, model["embedding_dim"])

    def embed(self, fbank: Tensor) -> Tensor:
        """Mean-normalised ``[B, T, F]`` to ``[B, E]``."""
        with torch.autocast(fbank.device.type, self.dtype, enabled=self.dtype != torch.float32):
            frames = self.encoder(fbank)
        pooled = self.pooling(frames.float())
        return self.embedding(self.pooled_norm(pooled) if hasattr(self, "pooled_norm") else pooled)


class SpeakerTask(SpeakerNet):
    """Computes the loss from filterbank frames and speakers."""

    def __init__(
        self, settings: Mapping[str, Any], classes: int, bins: int, dtype: torch.dtype, layout: torch.memory_format
    ) -> None:
        """Make network and head of our configuration."""
        super().__init__(settings["model"], bins, dtype, layout)
        self.stripes = settings["spec_augment"]
        each = settings["data"]["utterances_per_speaker"]
        self.head = Head(classes, settings["model"]["embedding_dim"], settings["loss"], each)

    def forward(self, fbank: Tensor, speaker: Tensor) -> Tensor:
        """``[B, T, F]`` and ``[B]`` to the mean loss."""
        fbank = fbank.float()
        fbank = fbank - fbank.mean(1, keepdim=True)
        for dim, number, widest in (
            (1, self.stripes["num_time_masks"], self.stripes["max_time_mask_frames"]),
            (2, self.stripes["num_frequency_masks"], self.stripes["max_frequency_mask_bins"]),
        ):
            if number:
                fbank = mask_stripes(fbank, dim, number, widest)
        return self.head(self.embed(fbank), speaker)


def mask_stripes(fbank: Tensor, dim: int, number: int, widest: int) -> Tensor:
    """SpecAugment: sets random stripes of each example to 0."""
    length, shape = fbank.shape[dim], (len(fbank), number, 1)
    width = torch.randint(widest + 1, shape, device=fbank.device)
    start = (torch.rand(shape, device=fbank.device) * (length - width + 1)).long()
    place = torch.arange(length, device=fbank.device)
    covered = ((place >= start) & (place < start + width)).any(1)
    return fbank.masked_fill(covered.unsqueeze(3 - dim), 0)


_LEAVES = {"scale": "weight", "mean": "running_mean", "var": "running_var"}


@torch.no_grad()
def load_flax(net: SpeakerNet, arrays: Mapping[str, np.ndarray]) -> None:
    """Copies all of our parameters into the PyTorch modules, and running statistics where there are any.

    Args:
      net: receives the parameters.
      arrays: arrays by path in our tree, such as ``encoder/stem/conv/kernel``.
    """
    moved = {}
    for path, array in arrays.items():
        *modules, leaf = path.split("/")
        if modules == ["pooling", "score"]:
            moved["pooling.score"] = array[..., 0]
        elif leaf == "kernel":
            moved[".".join([*modules, "weight"])] = np.moveaxis(array, (-1, -2), (0, 1))
        else:
            moved[".".join([*modules, _LEAVES.get(leaf, leaf)])] = array
    buffers = {name: buffer for name, buffer in net.named_buffers() if name in moved}
    targets = dict(net.named_parameters()) | buffers
    if targets.keys() != moved.keys():
        raise KeyError(f"Arrays of one side only: {sorted(targets.keys() ^ moved.keys())}")
    for name, target in targets.items():
        target.copy_(torch.from_numpy(np.ascontiguousarray(moved[name])).reshape(target.shape))
