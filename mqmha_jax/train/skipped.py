"""Steps that were not finite: logged with their utterances; too many in a row end the run."""

from collections.abc import Mapping

import numpy as np

from mqmha_jax.config import Config
from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.data.train_pipeline import example_utterances
from mqmha_jax.errors import UserError
from mqmha_jax.runs.metrics_log import MetricsLog


class SkippedSteps:
    """Watches the measurements of all steps."""

    def __init__(self, config: Config, shards: TrainingShards, log: MetricsLog) -> None:
        """Starts watching.

        Args:
          config: configuration of the run.
          shards: the training shards, which know the names of the utterances.
          log: log for skipped steps.
        """
        self._config, self._shards, self._log = config, shards, log

    def check(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Checks one step.

        Args:
          step: number of steps done, including this one.
          metrics: its measurements.

        Raises:
          UserError: ``train.max_skipped_in_row`` steps in a row were not finite, or the run ends with several of them.
        """
        in_row = int(metrics["skipped_in_row"])
        if not in_row:
            return
        utterances = self._utterances(step)
        self._log.note(step, "skipped", {"in_row": in_row, "loss": str(metrics["loss"]), "utterances": utterances})
        ends = step == self._config.train.steps and in_row > 1  # a single bad batch at the end leaves a good network
        if in_row >= self._config.train.max_skipped_in_row or ends:
            total = f"{int(metrics['skipped'])} of {step} steps were not finite and skipped. " if ends else ""
            raise UserError(
                f"{total}The loss or its gradient was not finite in {in_row} steps in a row, the last of them step "
                f"{step} (its utterances are in the log, first {', '.join(utterances[:3])}). Training stops; the last "
                "good checkpoint stays. Try a lower optimizer.learning_rate, a longer optimizer.warmup, "
                "optimizer.max_gradient_norm=5 or model.compute_dtype=float32 in a new work directory, or check the "
                "data: mqmha prep --help."
            )

    def _utterances(self, step: int) -> list[str]:
        data = self._config.data
        examples = range((step - 1) * data.batch_size, step * data.batch_size)
        return sorted({*example_utterances(self._shards, data, examples, seed=self._config.train.seed)})
