"""Draws the picture of the race on real speech from ``results/real_speech_race.jsonl``.

    python benchmarks/draw_race.py docs/race.png ours peer

A bar is the mean over the seeds, a dot one seed. Each contender shows the newest run of each seed.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from record import read_records

from mqmha_jax.evaluation.report.drawing import GRID, INK, draw_legend, new_figure, style_axes, system_colour

_LISTS = {
    "libri10": "sentences\n(libri10)",
    "dsp10": "words\n(dsp10)",
    "arabic10": "keywords\n(arabic10)",
    "wuw_xsession": "calls\n(wuw)",
}
_CONTENDERS = {
    "ours": "mqmha_jax",
    "pairs": "mqmha_jax",
    "ours_clean": "mqmha_jax, clean recordings only",
    "peer": "a plain TDNN in PyTorch",
}


@click.command()
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("names", nargs=-1, required=True)
def main(picture: Path, names: tuple[str, ...]) -> None:
    """Draw the contenders NAMES into PICTURE."""
    runs_of = read_runs()
    contenders = {name: runs_of[name] for name in names}
    figure = new_figure(10, 4.5)
    axes = figure.subplots()
    width = 0.8 / len(contenders)
    handles: list[Any] = []
    for i, runs in enumerate(contenders.values()):
        rates = {name: [100 * run["eer"][name] for run in runs] for name in runs[0]["eer"]}
        rates["mean"] = [100 * run["mean_eer"] for run in runs]
        places = [place + (i - (len(contenders) - 1) / 2) * width for place in range(len(rates))]
        means = [statistics.mean(part) for part in rates.values()]
        handles.append(axes.bar(places, means, 0.92 * width, color=system_colour(i), alpha=0.7))
        for place, mean, part in zip(places, means, rates.values(), strict=True):
            axes.plot([place] * len(part), part, "o", color=INK, markersize=3)
            axes.text(place, max(part), f"{mean:.1f}\n", ha="center", va="center", fontsize="small")
        axes.set_xticks(range(len(rates)), [_LISTS.get(name, name) for name in rates])
    axes.set_ylabel("EER, %")
    axes.grid(True, axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    style_axes(axes)
    draw_legend(axes, handles, [_CONTENDERS.get(name, name) for name in contenders])
    figure.savefig(picture)


def read_runs() -> Mapping[str, list[dict[str, Any]]]:
    """The newest run of each seed, by contender."""
    newest: dict[str, dict[int, dict[str, Any]]] = {}
    for run in read_records("real_speech_race"):
        newest.setdefault(run["contender"], {})[run["seed"]] = run
    return {name: list(seeds.values()) for name, seeds in newest.items()}


if __name__ == "__main__":
    main()
