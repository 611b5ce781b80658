"""What an evaluation keeps for ``verify``: it comes back, belongs to one step, and damage is refused."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.evaluation.scoring.decisions import (
    KeptCalibration,
    Threshold,
    load_decision,
    save_decision,
)
from mqmha_jax.json_file import write_sealed_json

THRESHOLD = Threshold(0.25, "dev", 0.031, 40)
CALIBRATION = KeptCalibration(Calibration(("score", "log_norm_min"), (8.5, -0.25), -1.5, 0.05), "other")


def test_each_step_has_its_own(tmp_path: Path) -> None:
    assert load_decision(tmp_path, Threshold, 40) is None
    assert load_decision(tmp_path, KeptCalibration, 40) is None
    save_decision(tmp_path, THRESHOLD, 40)
    save_decision(tmp_path, THRESHOLD._replace(speakers=None), 41)
    save_decision(tmp_path, CALIBRATION, 40)
    assert load_decision(tmp_path, Threshold, 40) == THRESHOLD
    assert load_decision(tmp_path, Threshold, 41) == THRESHOLD._replace(speakers=None)
    assert load_decision(tmp_path, KeptCalibration, 40) == CALIBRATION
    assert load_decision(tmp_path, KeptCalibration, 41) is None
    assert str(THRESHOLD) == "0.250 (list dev, 40 speakers, EER 3.10%)"


def test_a_file_under_the_name_of_another_step_is_refused(tmp_path: Path) -> None:
    save_decision(tmp_path, THRESHOLD, 40)
    save_decision(tmp_path, CALIBRATION, 40)
    for name, kind in (("threshold", Threshold), ("calibration", KeptCalibration)):
        (tmp_path / f"{name}-40.json").rename(tmp_path / f"{name}-41.json")
        with pytest.raises(UserError, match=rf"{name}-41\.json belongs to step 40, not to step 41\. Delete the file"):
            load_decision(tmp_path, kind, 41)


def test_a_checkpoint_that_was_trained_again_has_none(tmp_path: Path) -> None:
    """Its threshold and calibration belong to the earlier network of this step."""
    manifest = tmp_path / "checkpoints" / "40" / "manifest.json"
    write_sealed_json(manifest, {"files": {"a": "1"}})
    save_decision(tmp_path, THRESHOLD, 40)
    save_decision(tmp_path, CALIBRATION, 40)
    assert load_decision(tmp_path, Threshold, 40) == THRESHOLD
    assert load_decision(tmp_path, KeptCalibration, 40) == CALIBRATION
    write_sealed_json(manifest, {"files": {"a": "2"}})
    assert load_decision(tmp_path, Threshold, 40) is None
    assert load_decision(tmp_path, KeptCalibration, 40) is None


def test_any_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    save_decision(tmp_path, THRESHOLD, 40)
    save_decision(tmp_path, CALIBRATION, 40)
    for name, kind in (("threshold", Threshold), ("calibration", KeptCalibration)):
        path = tmp_path / f"{name}-40.json"
        written, expected = path.read_bytes(), load_decision(tmp_path, kind, 40)
        for place in range(len(written)):
            for bit in (0, 3, 6):
                damaged = bytearray(written)
                damaged[place] ^= 1 << bit
                path.write_bytes(damaged)
                with contextlib.suppress(UserError):
                    assert load_decision(tmp_path, kind, 40) == expected, damaged.decode(errors="replace")
        path.write_bytes(written)


@pytest.mark.parametrize(
    "value",
    [
        {"value": None, "list": "dev", "eer": 0.1, "speakers": 3},
        {"value": float("nan"), "list": "dev", "eer": 0.1, "speakers": 3},
        {"value": 0.1, "list": "dev", "eer": 2.0, "speakers": 3},
        {"value": 0.1, "list": "dev", "eer": 0.1, "speakers": "many"},
        {},
    ],
)
def test_what_is_no_threshold_is_refused(tmp_path: Path, value: dict[str, object]) -> None:
    write_sealed_json(tmp_path / "threshold-40.json", {"step": 40, "checkpoint": "", **value})
    with pytest.raises(UserError, match=r"threshold-40\.json holds no threshold\. Delete the file and run"):
        load_decision(tmp_path, Threshold, 40)


@pytest.mark.parametrize(
    "change",
    [
        {"coefficients": [1.0]},
        {"coefficients": ["a", "b"]},
        {"features": [], "coefficients": []},
        {"offset": float("inf")},
        {"prior": 1.0},
        {"prior": None},
    ],
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    fitted = CALIBRATION.calibration
    good = {"features": [*fitted.features], "coefficients": [*fitted.coefficients], "offset": -1.5, "prior": 0.05}
    write_sealed_json(
        tmp_path / "calibration-40.json",
        {"step": 40, "checkpoint": "", "list": "other", "calibration": {**good, **change}},
    )
    with pytest.raises(UserError, match=r"calibration-40\.json holds no calibration\. Delete the file and run"):
        load_decision(tmp_path, KeptCalibration, 40)


def test_full_disk_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_decision(tmp_path, THRESHOLD, 1)
    earlier = json.loads((tmp_path / "threshold-1.json").read_text())

    def no_space(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(UserError, match=r"threshold-1.json cannot be written \(No space left on device\)\. Free some"):
        save_decision(tmp_path, THRESHOLD._replace(value=0.5), 1)
    assert json.loads((tmp_path / "threshold-1.json").read_text()) == earlier
