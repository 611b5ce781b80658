"""All seeds of a cell start from the same network: one that changes during a study is noticed."""

import functools
from pathlib import Path

from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_sealed_json, write_sealed_json
from mqmha_jax.runs.identify_start import identify_start
from mqmha_jax.study.runs import Run

STARTS_NAME = "starts.json"


def refuse_changed_starts(runs: list[Run], workdir: Path) -> None:
    """Compares the checkpoints that the runs start from with those of the study's earlier calls, and records them.

    Runs that have begun continue from their own checkpoints, so only the others are compared.

    Args:
      runs: of the study.
      workdir: of the study.

    Raises:
      UserError: a run would start from another checkpoint than the earlier runs of its cell.
    """
    path = workdir / STARTS_NAME
    recorded = read_sealed_json(path, advice="Restore it from a copy of this study.") if path.is_file() else {}
    begun = {run.cell.name for run in runs if run.has_begun}
    identify_once = functools.cache(identify_start)  # the runs of a study share few starting networks
    found = {}
    for run in runs:
        if run.has_begun or not run.config.start.run:
            continue
        name = run.cell.name
        found[name] = identify_once(run.config.start)
        if name in begun and found[name] != recorded.get(name, found[name]):
            raise UserError(
                f"{run.name}, would start from {_describe(found[name])} in {run.config.start.run}, but the earlier "
                f"runs of this cell started from {_describe(recorded[name])}. Restore that checkpoint, delete the "
                f"runs {workdir / 'runs' / name} to train them again, or give another --workdir."
            )
    if found:
        write_sealed_json(path, recorded | found)


def _describe(checkpoint: dict[str, object]) -> str:
    return f"the checkpoint of step {checkpoint['step']} ({str(checkpoint['checkpoint'])[:12]})"
