"""Profiles some steps, for TensorBoard and Perfetto, on request."""

from pathlib import Path
from types import TracebackType

import jax
from jaxtyping import PyTree

from mqmha_jax.config import TrainConfig
from mqmha_jax.errors import UserError

DIRECTORY = "profile"


class Profile:
    """Traces the steps ``profile_first`` to ``profile_last`` into ``WORKDIR/profile``."""

    def __init__(self, workdir: Path, config: TrainConfig, *, enabled: bool = True) -> None:
        """Plans the profile.

        Args:
          workdir: directory of the run.
          config: the steps; ``profile_first=0``: none.
          enabled: False traces nothing, as in all processes but the first.

        Raises:
          UserError: the last step comes before the first.
        """
        if config.profile_first and config.profile_last < config.profile_first:
            raise UserError(
                f"train.profile_last={config.profile_last} comes before train.profile_first={config.profile_first}; a "
                "few steps are enough, e.g. 20 to 25."
            )
        wanted = enabled and config.profile_first > 0
        self._steps = range(config.profile_first, config.profile_last + 1) if wanted else range(0)
        self._directory = workdir / DIRECTORY
        self._tracing = False

    def before(self, step: int) -> None:
        """Starts before the first of the steps, or where a run resumes among them."""
        if step in self._steps and not self._tracing:
            jax.profiler.start_trace(str(self._directory))
            self._tracing = True

    def after(self, step: int, state: PyTree) -> None:
        """Stops after the last of the steps, when the devices have finished it."""
        if self._tracing and step == self._steps[-1]:
            jax.block_until_ready(state)
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._tracing = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracing:
            self._stop()
