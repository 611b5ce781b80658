"""The step of the best checkpoint, for tests of what a run keeps."""

from pathlib import Path

from mqmha_jax.runs.checkpoint_directory import CheckpointDirectory


def find_best_step(workdir: Path) -> int | None:
    """The step of the checkpoint with the lowest dev EER; None if none was evaluated."""
    on_disk = CheckpointDirectory(workdir)
    return next(iter(on_disk.sort_by_eer(on_disk.steps)), None)
