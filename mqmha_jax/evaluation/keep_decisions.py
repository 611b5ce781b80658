"""Keeps threshold and calibration for ``verify``: those of a run's own list, or of one that the user names."""

from pathlib import Path

from mqmha_jax.atomic import check_writable_directory
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.results import Evaluation
from mqmha_jax.evaluation.scoring.decisions import (
    Kept,
    KeptCalibration,
    Threshold,
    load_decision,
    save_decision,
)
from mqmha_jax.evaluation.scoring.method import Method
from mqmha_jax.evaluation.scoring.systems import COSINE
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.run_files import FILE_OF_STEP
from mqmha_jax.say import Say


def require_writable(workdir: Path) -> None:
    """Refuses, before the work, a run that cannot keep a threshold.

    Raises:
      UserError: its directory cannot be written.
    """
    try:
        check_writable_directory(workdir)
    except UserError as error:
        raise UserError(f"--save-threshold keeps the threshold in the run: {error}") from error


def require_verify_method(method: Method) -> None:
    """Refuses to keep a threshold of scores that ``verify`` does not compute.

    Raises:
      UserError: the method keeps the mean, or averages the utterances of a model.
    """
    option = "--no-mean" if not method.use_mean else "--enrol-map" if method.enrol_map else None
    if option:
        raise UserError(
            f"--save-threshold does not go with {option}: 'mqmha verify' compares two recordings after subtracting the "
            "mean. Leave one of the two out."
        )


def keep_decisions(
    workdir: Path, step: int, evaluation: Evaluation, method: Method, *, asked: bool | None, is_own: bool, say: Say
) -> None:
    """Keeps threshold and calibration for ``verify``, or says that they stay as they are.

    Args:
      workdir: of the run.
      step: of the network that was evaluated.
      evaluation: its first list gives the threshold.
      method: how the lists were scored.
      asked: the user wants them kept, or not; None: those of the run's own list are.
      is_own: the first list is the run's own dev list.
      say: receives what changes.

    Raises:
      UserError: the user asked, and the files cannot be written.
    """
    if not method.use_mean or method.enrol_map:  # other scores than those of ``verify``
        return
    threshold, earlier = Threshold.of(evaluation.lists[0]), _load(workdir, Threshold, step)
    if not (is_own if asked is None else asked):
        if earlier is None:
            say(f"'mqmha verify' has no threshold at step {step}; --save-threshold keeps {threshold}.")
        elif earlier != threshold:
            say(f"'mqmha verify' still uses the threshold {earlier}; --save-threshold replaces it by {threshold}.")
        return
    calibration, earlier_calibration = None, _load(workdir, KeptCalibration, step)
    if method.calibrate and COSINE in evaluation.calibrations:
        calibration = KeptCalibration(evaluation.calibrations[COSINE], method.calibrate.stem)
    try:
        save_decision(workdir, threshold, step)
        if calibration:
            save_decision(workdir, calibration, step)
        _remove_stale(workdir)
    except UserError as error:
        if asked:
            raise
        say(f"Threshold and calibration are not kept for 'mqmha verify': {error}")
        return
    if earlier != threshold:
        before = f"; before: {earlier}" if earlier else ""
        say(f"'mqmha verify' now uses the threshold {threshold} at step {step}{before}.")
    if calibration and calibration != earlier_calibration:
        before = f"; before: the calibration on list {earlier_calibration.list}" if earlier_calibration else ""
        say(f"'mqmha verify' now uses the calibration on list {calibration.list} at step {step}{before}.")
    elif earlier_calibration and earlier != threshold:
        say(f"'mqmha verify' decides by its calibration, which is still that of list {earlier_calibration.list}.")


def _load(workdir: Path, kind: type[Kept], step: int) -> Kept | None:
    """What is kept; a damaged file counts as none, because it is about to be replaced."""
    try:
        return load_decision(workdir, kind, step)
    except UserError:
        return None


def _remove_stale(workdir: Path) -> None:
    """Removes the files of steps whose checkpoints are gone: another network may reach the same step."""
    with Checkpoints(workdir) as checkpoints:
        steps = {str(step) for step in checkpoints.steps}
    for path in workdir.iterdir():
        match = FILE_OF_STEP.fullmatch(path.name)  # nothing else in the directory is ours
        if match and (match[1] or match[2]) not in steps:
            path.unlink(missing_ok=True)
