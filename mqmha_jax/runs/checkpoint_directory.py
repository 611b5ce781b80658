"""The directory of a run's checkpoints: which steps it holds, their dev EER, and where their arrays lie."""

import logging
import numbers
from pathlib import Path
from typing import Literal

from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_json
from mqmha_jax.runs.manifest import MANIFEST_NAME, read_manifest
from mqmha_jax.runs.run_files import CHECKPOINTS_NAME
from mqmha_jax.runs.saved_trees import NETWORK

# Arrays lie in a directory of their own beside the manifest. A version before manifests had them one level higher,
# and the dev EER in a file of Orbax.
ARRAYS = "arrays"
_OLD_EER = Path("metrics", "metrics")

Step = int | Literal["best"] | None
"""Which checkpoint: of this step, with the lowest dev EER, or (None) the newest."""


class CheckpointDirectory:
    """``checkpoints/`` in a work directory, with one directory per step; half-written ones are never seen.

    Attributes:
      workdir: directory of the run.
      path: directory of its checkpoints.
      damaged: steps whose manifest turned out to be damaged.
    """

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.path = (workdir / CHECKPOINTS_NAME).resolve()
        self.damaged: set[int] = set()

    @property
    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, in rising order."""
        try:
            names = [path.name for path in self.path.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        # Digits only: a checkpoint has another name until it is complete and hashed, and again while it is removed.
        return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

    def place_of(self, step: int) -> Path:
        """The directory of one checkpoint."""
        return self.path / str(step)

    def sort_by_eer(self, steps: list[int]) -> list[int]:
        """The steps that were evaluated, lowest dev EER first."""
        eers = {step: self._read_eer(step) for step in steps}
        return sorted((step for step in steps if eers[step] is not None), key=lambda step: (eers[step], step))

    def _read_eer(self, step: int) -> float | None:
        """The dev EER noted with a checkpoint; a damaged one, which nobody needs for this, is reported and has none."""
        place = self.place_of(step)
        try:
            if has_manifest(place):
                return read_manifest(place).eer
            if not (place / _OLD_EER).exists():
                return None
            eer = read_json(place / _OLD_EER, dict, advice="Delete this checkpoint.").get("eer")
            return float(eer) if isinstance(eer, (int, float)) else None
        except UserError as error:
            if place.exists() and step not in self.damaged:  # else training removed it meanwhile
                self.damaged.add(step)
                logging.getLogger(__name__).warning("The checkpoint of step %d is passed over: %s", step, error)
            return None

    def choose_step(self, step: Step) -> int:
        """Finds the checkpoint that is meant, and checks that it is there.

        Raises:
          UserError: there is no (such) checkpoint, or none has a dev EER.
        """
        steps = self.steps
        if not steps:
            raise UserError(f"No complete checkpoint in {self.path}; train first, or wait for the first save.")
        if step == "best":
            if not (best := self.sort_by_eer(steps)):
                raise UserError(
                    f"--step best: no checkpoint in {self.workdir} has a dev EER; train with data.dev and "
                    "data.dev_trials, or give the number of a step."
                )
            return best[0]
        if not isinstance(step, numbers.Integral | None) or isinstance(step, bool):
            raise UserError(
                f'step is {step!r}; valid: the number of a step such as {steps[-1]}, "best", or None: the newest.'
            )
        if step is not None and step not in steps:
            raise UserError(f"No checkpoint of step {step} in {self.path}; available steps: {steps}.")
        return steps[-1] if step is None else int(step)

    def holds(self, step: int, tree: str) -> bool:
        """Whether a tree was saved: as the manifest says, because one whose files are lost is damage."""
        place = self.place_of(step)
        if not has_manifest(place):
            return (place / tree).exists() or not (place / NETWORK).exists()
        try:
            return any(name.startswith(f"{ARRAYS}/{tree}/") for name in read_manifest(place).files)
        except UserError as error:
            raise self.make_damage_error(step, str(error)) from error

    def make_damage_error(self, step: int, reason: str) -> UserError:
        """The message about a damaged checkpoint, with what to do and what else there is."""
        return UserError(
            f"The checkpoint of step {step} in {self.path} is damaged: {reason[:300].rstrip('.')}. Restore it, "
            f"or delete {self.place_of(step)} to use another checkpoint. Available steps: "
            f"{', '.join(map(str, self.steps))}."
        )


def has_manifest(place: Path) -> bool:
    """Whether a checkpoint must have a manifest: all do but those of versions that had no directory of arrays."""
    return (place / ARRAYS).exists() or (place / MANIFEST_NAME).exists()


def arrays_of(place: Path) -> Path:
    """The directory in a checkpoint that Orbax reads."""
    return place / ARRAYS if has_manifest(place) else place
