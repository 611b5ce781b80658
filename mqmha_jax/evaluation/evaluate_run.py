"""The evaluation of a run: its network scores lists, and keeps what ``verify`` decides by."""

from collections.abc import Sequence
from pathlib import Path

from mqmha_jax.data.metadata import NOTHING_KNOWN, Metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.run_source import RunSource, Step
from mqmha_jax.evaluation.evaluate_lists import NO_SCORE_FILES, ScoreFiles, evaluate_lists
from mqmha_jax.evaluation.metrics.measure_list import USUAL_MEASURING, Measuring
from mqmha_jax.evaluation.metrics.results import Evaluation
from mqmha_jax.evaluation.scoring.decisions import save_calibration, save_threshold
from mqmha_jax.evaluation.scoring.method import COSINE_ONLY, Method
from mqmha_jax.evaluation.scoring.systems import COSINE


def evaluate_run(
    workdir: Path,
    *,
    data: Sequence[Path] = (),
    calibrate_data: Sequence[Path] = (),
    lists: Sequence[Path] = (),
    method: Method = COSINE_ONLY,
    step: Step = None,
    known: Metadata = NOTHING_KNOWN,
    score_files: ScoreFiles = NO_SCORE_FILES,
    measuring: Measuring = USUAL_MEASURING,
    strict: bool = False,
    progress: bool = True,
) -> Evaluation:
    """Score trial lists with the network of a run.

    The newest network's threshold (of the first list) and calibration are kept in the work directory, if it was
    scored as ``verify`` scores: by the cosine of two utterances, after subtracting the mean.

    Args:
      workdir: of the run.
      data: shards with the utterances of the lists; none: the run's dev shards.
      calibrate_data: shards with those of the calibration list, if they are not among these.
      lists: trial lists; none: the run's dev list.
      method: cosine alone, or other ways of scoring beside it.
      step: of the checkpoint; "best": with the lowest dev EER, None: the newest.
      known: about the utterances, beside what the shards know.
      score_files: further systems.
      measuring: costs and resamples.
      strict: refuse what would be noted, such as speakers that were trained on.
      progress: show progress bars.

    Raises:
      UserError: run, data and lists are missing or do not fit together.
    """
    method.check()  # before the network is loaded
    source = RunSource(workdir, data, calibrate_data, step=step, progress=progress)
    if not lists and not source.config.data.dev_trials:
        raise UserError(f"The run in {workdir} has no dev list; give one with --data DIR --trials FILE.")
    evaluation = evaluate_lists(
        source,
        lists or [Path(source.config.data.dev_trials)],
        method,
        known=known,
        score_files=score_files,
        measuring=measuring,
        strict=strict,
    )
    if source.is_newest and method.use_mean and method.enrol_map is None:
        save_threshold(workdir, evaluation.lists[0], source.step)
        if COSINE in evaluation.calibrations:
            save_calibration(workdir, evaluation.calibrations[COSINE], source.step)
    return evaluation
