"""Which checkpoint a run starts from, by its content and not by its place."""

from pathlib import Path

from mqmha_jax.config import StartConfig
from mqmha_jax.runs.checkpoint_directory import CheckpointDirectory
from mqmha_jax.runs.manifest import identify_checkpoint


def identify_start(start: StartConfig) -> dict[str, object]:
    """Returns the step of the checkpoint that ``start`` names, and its fingerprint, as JSON values.

    Raises:
      UserError: there is no such checkpoint, or its manifest is damaged.
    """
    workdir = Path(start.run)
    step = CheckpointDirectory(workdir).choose_step(start.step)
    return {"step": step, "checkpoint": identify_checkpoint(workdir, step)}
