"""What an evaluation keeps in a work directory for ``verify``: a threshold and a calibration for each step."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.results import ListEvaluation
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.json_file import read_sealed_json, write_sealed_json
from mqmha_jax.runs.manifest import identify_checkpoint

_ADVICE = "Delete the file and run 'mqmha evaluate' on the work directory again."


class Threshold(NamedTuple):
    """The score at which ``verify`` accepts, and the list that it comes from.

    Attributes:
      value: cosine where misses and false alarms are equally frequent on the list.
      list: name of the list.
      eer: equal error rate there, a fraction.
      speakers: number of speakers in the list; None where unknown.
    """

    value: float
    list: str
    eer: float
    speakers: int | None

    @classmethod
    def of(cls, evaluation: ListEvaluation) -> "Threshold":
        """The threshold of a list's first system, the cosine after subtracting the mean."""
        system = evaluation.systems[0]
        eer = system.metrics["EER"].value
        return cls(float(system.threshold), evaluation.name, float(eer), evaluation.num_speakers)

    def __str__(self) -> str:
        speakers = "unknown speakers" if self.speakers is None else f"{self.speakers:,} speakers"
        return f"{self.value:.3f} (list {self.list}, {speakers}, EER {self.eer:.2%})"


class KeptCalibration(NamedTuple):
    """The calibration that gives ``verify`` its probability.

    Attributes:
      calibration: of the cosine.
      list: name of the list that it was fitted on.
    """

    calibration: Calibration
    list: str


def save_threshold(workdir: Path, threshold: Threshold, step: int) -> None:
    """Keeps the threshold for the network of one step.

    Raises:
      UserError: the file cannot be written.
    """
    value = {"step": step, "checkpoint": identify_checkpoint(workdir, step), **threshold._asdict()}
    write_sealed_json(_threshold_path(workdir, step), value)


def load_threshold(workdir: Path, step: int) -> Threshold | None:
    """The threshold that an evaluation kept for the network of this step; None: there is none.

    Raises:
      UserError: the file is damaged, or belongs to another step.
    """
    path = _threshold_path(workdir, step)
    saved = _read(workdir, path, step)
    if saved is None:
        return None
    match saved:
        case {
            "value": float(value),
            "list": str(name),
            "eer": float(eer),
            "speakers": int() | None as speakers,
        } if np.isfinite(value) and 0 <= eer <= 1:
            return Threshold(value, name, eer, speakers)
    raise UserError(f"{path} holds no threshold. {_ADVICE}")


def save_calibration(workdir: Path, kept: KeptCalibration, step: int) -> None:
    """Keeps the calibration for the network of one step.

    Raises:
      UserError: the file cannot be written.
    """
    checkpoint = identify_checkpoint(workdir, step)
    value = {"step": step, "checkpoint": checkpoint, "list": kept.list, "calibration": asdict(kept.calibration)}
    write_sealed_json(_calibration_path(workdir, step), value)


def load_calibration(workdir: Path, step: int) -> KeptCalibration | None:
    """The calibration that an evaluation kept for the network of this step; None: there is none.

    Raises:
      UserError: the file is damaged, or belongs to another step.
    """
    path = _calibration_path(workdir, step)
    saved = _read(workdir, path, step)
    if saved is None:
        return None
    match saved:
        case {
            "list": str(name),
            "calibration": {
                "features": [*features],
                "coefficients": [*coefficients],
                "offset": float(offset),
                "prior": float(prior),
            },
        } if (
            features
            and all(isinstance(feature, str) for feature in features)
            and all(isinstance(value, float) for value in coefficients)
            and len(features) == len(coefficients)
            and np.isfinite([*coefficients, offset]).all()
            and 0 < prior < 1
        ):
            return KeptCalibration(Calibration(tuple(features), tuple(coefficients), offset, prior), name)
    raise UserError(f"{path} holds no calibration. {_ADVICE}")


def _read(workdir: Path, path: Path, step: int) -> dict[str, Any] | None:
    """The content of a file, or None if there is none for the checkpoint that this step now has."""
    if not path.exists():
        return None
    saved = read_sealed_json(path, advice=_ADVICE)
    if saved.get("step") != step:
        raise UserError(f"{path} belongs to step {saved.get('step')}, not to step {step}. {_ADVICE}")
    if saved.get("checkpoint") != identify_checkpoint(workdir, step):  # the run was trained again
        return None
    return saved


def _threshold_path(workdir: Path, step: int) -> Path:
    return workdir / f"threshold-{step}.json"


def _calibration_path(workdir: Path, step: int) -> Path:
    return workdir / f"calibration-{step}.json"
