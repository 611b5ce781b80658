"""What is in a directory of shards: figures for the terminal, and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mqmha_jax.atomic import replacing
from mqmha_jax.data.shard_reader import FbankShards

PERCENTILES = (0, 5, 50, 95, 100)
_UNITS = {"seconds": "s", "snr_db": "dB"}


def statistics(shards: FbankShards) -> str:
    """Counts, lengths, measures and sizes as a table of text.

    Args:
      shards: what to describe; its frames are not read.
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


def draw(shards: FbankShards, path: Path, *, seed: int = 0, num_fbanks: int = 6) -> None:
    """A picture of random fbanks above histograms of length, utterances per speaker and signal to noise.

    Args:
      shards: what to draw.
      path: of the PNG, replaced if it exists.
      seed: of the choice of utterances.
      num_fbanks: how many are drawn.

    Raises:
      UserError: the picture cannot be written, or an utterance cannot be read.
    """
    from matplotlib.figure import Figure  # here: the statistics need no plots

    chosen = np.sort(np.random.default_rng(seed).permutation(len(shards))[:num_fbanks])
    figure = Figure(figsize=(12, 9), layout="constrained")
    grid = figure.subplots(3, 3)
    for axes, index in zip(grid.flat[:6], chosen, strict=False):
        fbank = shards.fbank(int(index)).astype(np.float32)
        end = len(fbank) * shards.spec.frame_shift_ms / 1000
        image = axes.imshow(fbank.T, origin="lower", aspect="auto", extent=(0, end, 0, fbank.shape[1]), cmap="magma")
        axes.set_title(_ending(shards.utterance(int(index)), 34), fontsize=8)
        axes.set_xlabel("s")
        figure.colorbar(image, ax=axes)
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
    grid[0][0].set_ylabel("feature")
    grid[1][0].set_ylabel("feature")
    grid[2][0].set_ylabel("utterances")
    grid[2][1].set_ylabel("speakers")
    figure.suptitle(f"{shards.directory}: {len(shards):,} utterances, {len(shards.speakers):,} speakers")
    with replacing(path) as temporary, temporary.open("wb") as file:  # a file, or the name would get an ending
        figure.savefig(file, dpi=110, format="png")


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
