"""What an evaluation leaves in a work directory for ``verify``: a threshold, and a calibration where there was one."""

import json
from pathlib import Path

from mqmha_jax.atomic import write_json
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.results import ListEvaluation
from mqmha_jax.evaluation.scoring.calibration import Calibration

THRESHOLD_FILE = "threshold.json"


def save_threshold(workdir: Path, evaluation: ListEvaluation, step: int) -> None:
    """Keeps the threshold of a list's first system, the cosine after subtracting the mean.

    Args:
      workdir: the run's directory.
      evaluation: of the list.
      step: how long the network was trained; the threshold of another step is never used.

    Raises:
      UserError: the file can not be written.
    """
    system = evaluation.systems[0]
    threshold = {
        "threshold": system.threshold,
        "list": evaluation.name,
        "eer": system.metrics["EER"].value,
        "speakers": evaluation.num_speakers,
        "step": step,
    }
    write_json(workdir / THRESHOLD_FILE, threshold)


def load_threshold(workdir: Path, step: int) -> float | None:
    """The threshold that an evaluation of this step's network left, or None.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / THRESHOLD_FILE
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return float(saved["threshold"]) if saved["step"] == step else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds no threshold ({error}); evaluate the work directory again.") from error


def save_calibration(workdir: Path, calibration: Calibration, step: int) -> None:
    """Keeps the calibration of the cosine; each step's network has a file of its own.

    Raises:
      UserError: the file can not be written.
    """
    calibration.save(_calibration_path(workdir, step))


def load_calibration(workdir: Path, step: int) -> Calibration | None:
    """The calibration of this step's network, or None.

    Raises:
      UserError: the file is damaged.
    """
    path = _calibration_path(workdir, step)
    return Calibration.load(path) if path.exists() else None


def _calibration_path(workdir: Path, step: int) -> Path:
    return workdir / f"calibration-{step}.json"
