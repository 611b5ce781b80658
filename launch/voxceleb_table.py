"""The table at the end of launch/voxceleb.py: our rows with intervals, beside published rows that are marked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mqmha_jax.atomic import write_json, write_text
from mqmha_jax.json_file import read_sealed_json

LISTS = ("O", "E", "H")


class Published(NamedTuple):
    """EER in per cent on the three lists, as somebody else published them."""

    system: str
    eer: tuple[float, float, float]
    source: str


_WESPEAKER = "WeSpeaker, examples/voxceleb/v2/README.md"
PUBLISHED = (
    Published("the team's ResNet34, statistics, AM, cosine", (1.050, 1.059, 1.846), "arXiv 2110.09720"),
    Published("ResNet34, cosine", (0.867, 1.049, 1.959), _WESPEAKER),
    Published("ResNet34, large margin, AS-norm", (0.723, 0.867, 1.532), _WESPEAKER),
    Published("ResNet34, large margin, AS-norm, QMF", (0.659, 0.821, 1.437), _WESPEAKER),
    Published("ResNet221, large margin, AS-norm", (0.505, 0.676, 1.213), _WESPEAKER),
    Published("ResNet293, large margin, AS-norm", (0.447, 0.657, 1.183), _WESPEAKER),
    Published("ECAPA-TDNN c512, large margin, AS-norm", (0.782, 1.005, 1.824), _WESPEAKER),
    Published("CAM++, large margin, AS-norm", (0.659, 0.803, 1.569), _WESPEAKER),
    Published("ReDimNet-B2, large margin, AS-norm", (0.52, 0.74, 1.27), "github.com/IDRnD/ReDimNet, EVALUATION.md"),
    Published("ReDimNet-B6, large margin", (0.40, 0.55, 1.05), "github.com/IDRnD/ReDimNet, EVALUATION.md"),
)
"""On the cleaned lists, with VoxCeleb2-dev as training set. Not ours, not measured by us."""


def write_table(
    folder: Path,
    *,
    recipe: str,
    evaluations: Mapping[str, Path],
    facts: Mapping[str, Mapping[str, Any]],
    machine: Mapping[str, Any],
    seconds: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes ``table.json`` and ``table.md``.

    Args:
      folder: for the two files.
      recipe: name of the recipe.
      evaluations: directory of the evaluation of each network, by its name.
      facts: what each stage noted: steps, checksums.
      machine: what the table was made on.
      seconds: time of each stage, and its number of attempts.

    Returns:
      The content of ``table.json``.
    """
    rows, scores = [], {}
    for network, directory in evaluations.items():
        numbers = read_sealed_json(directory / "metrics.json", advice="Evaluate again.")
        scores[network] = {name: numbers["sha256_of_files"][name] for name in sorted(numbers["sha256_of_files"])}
        for system in numbers["lists"][LISTS[0]]["systems"]:
            metrics = {name: numbers["lists"][name]["systems"][system]["metrics"] for name in LISTS}
            rows.append({"network": network, "system": system, "metrics": metrics})
    table = {
        "recipe": recipe,
        "rows": rows,
        "published_by_others_not_measured_by_us": [published._asdict() for published in PUBLISHED],
        "facts": {name: dict(values) for name, values in facts.items()},
        "scores_sha256": scores,
        "machine": dict(machine),
        "seconds": dict(seconds),
    }
    write_json(folder / "table.json", table)
    write_text(folder / "table.md", format_table(table))
    return table


def format_table(table: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    columns = [f"EER % {name}" for name in LISTS] + [f"minDCF 0.01 {name}" for name in LISTS]
    ours = [
        [f"{row['network']}, {row['system']}"]
        + [_percent(row["metrics"][name]["EER"]) for name in LISTS]
        + [f"{row['metrics'][name]['minDCF 0.01']['value']:.3f}" for name in LISTS]
        for row in table["rows"]
    ]
    others = [
        [published["system"], *(f"{value:.3f}" for value in published["eer"]), published["source"]]
        for published in table["published_by_others_not_measured_by_us"]
    ]
    times = [[name, f"{values['seconds']:,.0f}", str(values["attempts"])] for name, values in table["seconds"].items()]
    return "\n".join(
        [
            f"# {table['recipe']} on VoxCeleb1 O, E and H (cleaned)",
            "",
            "Ours, measured; 95 % intervals over speakers in brackets.",
            "",
            *_markdown(["system", *columns], ours),
            "",
            "**Not ours, not measured by us**: published rows on the same lists.",
            "",
            *_markdown(["system", *(f"EER % {name}" for name in LISTS), "source"], others),
            "",
            f"Machine: {', '.join(f'{name} {value}' for name, value in table['machine'].items())}. Steps: "
            + ", ".join(f"{name} {values['steps']:,}" for name, values in table["facts"].items() if "steps" in values)
            + ".",
            "",
            *_markdown(["stage", "seconds of the last attempt", "attempts"], times),
            "",
        ]
    )


def _percent(measured: Mapping[str, float | None]) -> str:
    low, high = measured["low"], measured["high"]
    interval = "" if low is None or high is None else f" [{100 * low:.2f}, {100 * high:.2f}]"
    return f"{100 * (measured['value'] or 0):.3f}{interval}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
