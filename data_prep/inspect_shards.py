"""Describes a directory of shards: figures for the terminal, and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mqmha_jax.atomic import replacing
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_reader import FbankShards
from mqmha_jax.evaluation.report.drawing import plain_text

PERCENTILES = (0, 5, 50, 95, 100)
_UNITS = {"seconds": "s", "snr_db": "dB", "speech_seconds": "s"}

DYNAMIC_RANGE_DB = 80.0
"""Digital silence would otherwise take all colours."""


def statistics(shards: FbankShards) -> str:
    """Counts, lengths, measures and sizes as a table of text.

    Args:
      shards: the shards; their frames are not read.
    """
    seconds = _seconds(shards)
    per_speaker = np.bincount(shards.speaker, minlength=len(shards.speakers))
    num_bytes = sum(file.num_bytes for file in shards.info.files)
    num_records = sum(file.num_records for file in shards.info.files)
    lines = [
        f"{shards.directory}: format {shards.info.format_version}, {shards.info.created_by}, {shards.info.coding}",
        f"  utterances       {len(shards):,}",
        f"  speakers         {len(shards.speakers):,}",
        f"  hours            {seconds.sum() / 3600:,.2f}",
        f"  features         {shards.spec.num_features} per frame, {shards.spec.frame_shift_ms:g} ms apart",
        f"  files            {len(shards.info.files)}, {num_bytes / 1e6:,.1f} MB, {num_records:,} records, "
        f"{num_bytes / max(1, int(shards.num_frames.sum())):.1f} bytes per frame",
        "",
        f"  {'':<24}" + "".join(f"{_name(percentile):>12}" for percentile in PERCENTILES),
        _percentiles("length, s", seconds),
        _percentiles("utterances per speaker", per_speaker),
    ]
    for name, values in shards.measures.items():
        unit = f", {_UNITS[name]}" if name in _UNITS else ""
        lines.append(_percentiles(f"{name}{unit}", values[np.isfinite(values)]))
    for name in ("speed", "version"):
        if name in shards.attributes:
            values, counts = np.unique(shards.attributes[name], return_counts=True)
            shown = ", ".join(f"{value or 'none'} {count:,}" for value, count in zip(values, counts, strict=True))
            lines += ["", f"  {name}: {shown}"]
    return "\n".join(lines)


@plain_text()
def draw(shards: FbankShards, path: Path, *, seed: int = 0, num_fbanks: int = 6) -> None:
    """Draws random utterances, in dB over seconds and hertz, above histograms of what was measured.

    Args:
      shards: the shards to draw.
      path: of the PNG, replaced if it exists.
      seed: of the choice of utterances.
      num_fbanks: number of utterances, at most 6.

    Raises:
      UserError: the picture cannot be written, or an utterance cannot be read.
    """
    from matplotlib.figure import Figure  # here and below: libraries that the statistics do without

    chosen = np.sort(np.random.default_rng(seed).permutation(len(shards))[:num_fbanks])
    figure = Figure(figsize=(12, 9), layout="constrained")
    grid = figure.subplots(3, 3)
    for axes, index in zip(grid.flat[:6], chosen, strict=False):
        image = _draw_fbank(axes, shards.fbank(int(index)), shards.spec)
        axes.set_title(_ending(shards.utterance(int(index)), 34), fontsize=8)
        figure.colorbar(image, ax=axes, label="dB")
    for axes in grid[:2, 1:].flat:
        axes.set_ylabel("")
    for axes in grid.flat[len(chosen) : 6]:
        axes.set_axis_off()
    per_speaker = np.bincount(shards.speaker, minlength=len(shards.speakers))
    histograms: Sequence[tuple[str, np.ndarray]] = [
        ("length, s", _seconds(shards)),
        ("utterances per speaker", per_speaker),
        ("signal to noise, dB", _finite(shards.measures, "snr_db")),
    ]
    for axes, (name, values) in zip(grid[2], histograms, strict=True):
        if not len(values):
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        else:
            axes.hist(values, bins=min(50, max(5, len(np.unique(values)))), color="tab:blue")
        axes.set_xlabel(name)
    grid[2][0].set_ylabel("utterances")
    grid[2][1].set_ylabel("speakers")
    figure.suptitle(f"{shards.directory}: {len(shards):,} utterances, {len(shards.speakers):,} speakers")
    with replacing(path) as temporary, temporary.open("wb") as file:  # a file, or the name would get an ending
        figure.savefig(file, dpi=110, format="png")


def _draw_fbank(axes: Any, fbank: Float[np.ndarray, "T F"], spec: FbankSpec) -> Any:
    """One utterance over seconds and hertz; the log energy, which has no place on that axis, is left out."""
    from librosa import mel_frequencies
    from librosa.display import specshow

    decibels = (10 / np.log(10)) * fbank[:, spec.num_features - spec.num_mel_bins :].astype(np.float32)
    edges_hz = mel_frequencies(n_mels=spec.num_mel_bins + 2, fmin=spec.low_hz, fmax=spec.highest_hz, htk=True)
    image = specshow(
        decibels.T,
        x_coords=np.arange(len(decibels)) * spec.frame_shift_ms / 1000,
        y_coords=edges_hz[1:-1],
        x_axis="time",
        y_axis="mel",
        cmap="magma",
        vmin=max(decibels.min(), decibels.max() - DYNAMIC_RANGE_DB),
        ax=axes,
    )
    axes.set_xlabel("s")
    return image


def _seconds(shards: FbankShards) -> np.ndarray:
    return shards.num_frames * (shards.spec.frame_shift_ms / 1000)


def _finite(measures: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    values = measures.get(name, np.empty(0, np.float32))
    return values[np.isfinite(values)]


def _percentiles(name: str, values: np.ndarray) -> str:
    shown = np.percentile(values, PERCENTILES) if len(values) else np.full(len(PERCENTILES), np.nan)
    return f"  {name:<24}" + "".join(f"{value:>12.4g}" for value in shown)


def _name(percentile: int) -> str:
    return {0: "least", 50: "median", 100: "most"}.get(percentile, f"{percentile} %")


def _ending(text: str, length: int) -> str:
    return text if len(text) <= length else f"...{text[3 - length :]}"
