"""Every loss as its paper writes it: one example at a time, class by class, in angles."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def similarities(embedding: np.ndarray, prototypes: np.ndarray, *, products: bool, temperature: float) -> list[float]:
    found = []
    for centres in prototypes:
        values = [float(embedding @ p) for p in centres]
        if not products:
            length = np.linalg.norm(embedding)
            values = [v / length / np.linalg.norm(p) for v, p in zip(values, centres, strict=True)]
        weights = [math.exp(v / temperature) for v in values] if temperature else []
        blend = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights) if temperature else max(values)
        found.append(blend)
    return found


def psi(theta: float, factor: float) -> float:
    """SphereFace's eq. 7, piece by piece."""
    k = 0
    while factor * theta > (k + 1) * math.pi:
        k += 1
    return (-1) ** k * math.cos(factor * theta) - 2 * k


def arc(cosine: float, margin: float) -> float:
    theta = math.acos(max(-1, min(1, cosine)))
    if theta + margin > math.pi:
        return cosine - (1 + math.cos(math.pi - margin))
    return math.cos(theta + margin)


def target(name: str, cosine: float, margin: float, norm: float, state: dict[str, float]) -> float:
    theta = math.acos(max(-1, min(1, cosine)))
    if name == "adaface":
        z = 0.333 * (norm - state["mean"] / state["weight"]) / (state["deviation"] / state["weight"] + 1e-3)
        z = max(-1, min(1, z)) if state["weight"] > 0 else 0
        return math.cos(min(math.pi, max(0, theta - margin * z))) - (margin + margin * z)
    return {
        "softmax": lambda: cosine,
        "normface": lambda: cosine,
        "am": lambda: cosine - margin,
        "aam": lambda: arc(cosine, margin),
        "a_softmax": lambda: psi(theta, 1 + margin),
        "curricular": lambda: arc(cosine, margin),
        "sphereface2": lambda: 2 * ((cosine + 1) / 2) ** 3 - 1 - margin,
    }[name]()


def negative(name: str, cosine: float, target: float, margin: float, state: dict[str, float]) -> float:
    if name == "curricular" and cosine > target:
        return (state["t"] + cosine) * cosine
    if name == "sphereface2":
        return 2 * ((cosine + 1) / 2) ** 3 - 1 + margin
    return cosine


def penalise(name: str, value: float, penalty: float) -> float:
    return math.cos(math.acos(max(-1, min(1, value))) - penalty) if name == "aam" else value + penalty


def softplus(z: float) -> float:
    return max(z, 0) + math.log1p(math.exp(-abs(z)))


NAMES = ("softmax", "normface", "am", "aam", "a_softmax", "sphereface2", "curricular", "adaface")


def slow_loss(
    name: str,
    embedding: np.ndarray,
    prototypes: np.ndarray,
    speaker: int,
    *,
    scale: float,
    margin: float,
    top_k: int,
    penalty: float,
    state: dict[str, float],
    bias: float = 0.0,
    temperature: float = 0.0,
    penalised_above: float | None = None,
    hard_negatives: float = 0.0,
    smoothing: float = 0.0,
) -> float:
    cosines = similarities(embedding, prototypes, products=name == "softmax", temperature=temperature)
    norm = float(np.linalg.norm(embedding))
    others = sorted((c for c in range(len(cosines)) if c != speaker), key=lambda c: (-cosines[c], c))
    own = target(name, cosines[speaker], margin, norm, state)
    values = []
    for c, cosine in enumerate(cosines):
        value = own
        if c != speaker:
            value = negative(name, cosine, own, margin, state)
            if hard_negatives and cosine > own:
                value += hard_negatives * (value + 1)
            if (c in others[:top_k]) if penalised_above is None else cosine > penalised_above:
                value = penalise(name, value, penalty)
        values.append(value * (norm if name == "a_softmax" else scale) + bias)
    if name == "sphereface2":
        return binary(values, speaker, smoothing, share=0.7) / scale
    labels = [smoothing / len(values) + (1 - smoothing) * (c == speaker) for c in range(len(values))]
    total = math.log(sum(math.exp(v - values[speaker]) for v in values)) + values[speaker]
    return sum(label * (total - v) for label, v in zip(labels, values, strict=True))


def binary(logits: list[float], speaker: int, smoothing: float, share: float) -> float:
    loss = 0.0
    for c, z in enumerate(logits):
        label = 1 - smoothing / 2 if c == speaker else smoothing / 2
        cross_entropy = label * softplus(-z) + (1 - label) * softplus(z)
        loss += (share if c == speaker else 1 - share) * cross_entropy
    return loss


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def mean_of_others(embedding: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    return unit(np.mean([unit(embedding[row]) for row in rows], axis=0))


def slow_ge2e(embedding: np.ndarray, speaker: np.ndarray, example: np.ndarray) -> float:
    losses = []
    for i, own in enumerate(speaker):
        if (speaker == own).sum() < 2:
            continue
        logits = {}
        for other in np.unique(speaker):
            rows = [j for j in np.flatnonzero(speaker == other) if j != i or other != own]
            logits[other] = 10 * unit(embedding[i]) @ mean_of_others(embedding, rows) - 5
        losses.append(math.log(sum(math.exp(v) for v in logits.values())) - logits[own])
    return float(np.mean(losses))


def slow_angular_prototypical(embedding: np.ndarray, speaker: np.ndarray, example: np.ndarray) -> float:
    queries, supports = {}, {}
    for own in np.unique(speaker):
        rows = sorted(np.flatnonzero(speaker == own), key=lambda row: example[row])
        if len(rows) > 1:
            queries[own], supports[own] = unit(embedding[rows[-1]]), mean_of_others(embedding, rows[:-1])
    losses = []
    for own, query in queries.items():
        logits = {other: 10 * query @ support - 5 for other, support in supports.items()}
        losses.append(math.log(sum(math.exp(v) for v in logits.values())) - logits[own])
    return float(np.mean(losses))


def slow_supervised_contrastive(embedding: np.ndarray, speaker: np.ndarray, example: np.ndarray) -> float:
    losses = []
    for i in range(len(speaker)):
        positives = [j for j in range(len(speaker)) if j != i and speaker[j] == speaker[i]]
        if not positives:
            continue
        logits = {j: unit(embedding[i]) @ unit(embedding[j]) / 0.1 for j in range(len(speaker)) if j != i}
        total = math.log(sum(math.exp(v) for v in logits.values()))
        losses.append(np.mean([total - logits[j] for j in positives]))
    return float(np.mean(losses))


SLOW_PAIRS: dict[str, Callable[..., Any]] = {
    "ge2e": slow_ge2e,
    "angular_prototypical": slow_angular_prototypical,
    "supervised_contrastive": slow_supervised_contrastive,
}
