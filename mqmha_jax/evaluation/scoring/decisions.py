"""What an evaluation keeps in a work directory for ``verify``: a threshold and a calibration for each step."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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

    @classmethod
    def parse(cls, saved: dict[str, Any]) -> "Threshold | None":
        """Reads what a file holds; None: it holds no threshold."""
        match saved:
            case {
                "value": float(value),
                "list": str(name),
                "eer": float(eer),
                "speakers": int() | None as speakers,
            } if np.isfinite(value) and 0 <= eer <= 1:
                return cls(value, name, eer, speakers)
        return None

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

    @classmethod
    def parse(cls, saved: dict[str, Any]) -> "KeptCalibration | None":
        """Reads what a file holds; None: it holds no calibration."""
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
                return cls(Calibration(tuple(features), tuple(coefficients), offset, prior), name)
        return None


_NAMES = {Threshold: "threshold", KeptCalibration: "calibration"}

Kept = TypeVar("Kept", Threshold, KeptCalibration)


def save_decision(workdir: Path, decision: Threshold | KeptCalibration, step: int) -> None:
    """Keeps a threshold or a calibration for the network of one step.

    Raises:
      UserError: the file cannot be written.
    """
    fields = decision._asdict()
    if isinstance(decision, KeptCalibration):
        fields["calibration"] = asdict(decision.calibration)
    value = {"step": step, "checkpoint": identify_checkpoint(workdir, step), **fields}
    write_sealed_json(_path(workdir, type(decision), step), value)


def load_decision(workdir: Path, kind: type[Kept], step: int) -> Kept | None:
    """The threshold or the calibration that an evaluation kept for the network of this step; None: there is none.

    Raises:
      UserError: the file is damaged, or belongs to another step.
    """
    path = _path(workdir, kind, step)
    if not path.exists():
        return None
    saved = read_sealed_json(path, advice=_ADVICE)
    if saved.get("step") != step:
        raise UserError(f"{path} belongs to step {saved.get('step')}, not to step {step}. {_ADVICE}")
    if saved.get("checkpoint") != identify_checkpoint(workdir, step):  # the run was trained again
        return None
    decision = kind.parse(saved)
    if decision is None:
        raise UserError(f"{path} holds no {_NAMES[kind]}. {_ADVICE}")
    return decision


def _path(workdir: Path, kind: type, step: int) -> Path:
    return workdir / f"{_NAMES[kind]}-{step}.json"
