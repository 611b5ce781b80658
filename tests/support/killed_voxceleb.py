"""Runs launch/voxceleb.py and kills it, with all its processes, in the middle of one stage.

    python tests/support/killed_voxceleb.py STAGE ARGUMENTS...

Started in a session of its own. The kill comes when the stage has made something, and before its record at the latest.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "launch"), str(ROOT)]

import stages  # noqa: E402
import voxceleb  # noqa: E402

# What shows that a stage is in the middle of its work.
MADE = {
    "unpack": "vox1/dev/**/*.wav",
    "dev-list": "O.txt",
    "lists": "E.txt",
    "noises": "shards",
    "train-shards": "*.partial/**/*",
    "eval-shards": "*.partial/**/*",
    "cohort": "*.partial/**/*",
    "calibration": "shards",
    "base": "run/checkpoints/4",
    "fine-tuning": "run/checkpoints/4",
    "base-scores": "evaluation/*",
    "scores": "evaluation/*",
}


def die() -> None:
    os.killpg(0, signal.SIGKILL)


def killing(stage: stages.Stage) -> stages.Stage:
    def watch(folder: Path) -> None:
        while stage.name not in MADE or not any(folder.glob(MADE[stage.name])):
            time.sleep(0.005)
        die()

    def work(folder: Path) -> Mapping[str, Any]:
        threading.Thread(target=watch, args=(folder,), daemon=True).start()
        stage.work(folder)
        die()
        return {}

    return dataclasses.replace(stage, work=work)


def main() -> None:
    name = sys.argv.pop(1)
    run = voxceleb.run_stages
    voxceleb.run_stages = lambda all_stages, **options: run(
        [killing(stage) if stage.name == name else stage for stage in all_stages], **options
    )
    voxceleb.main()


if __name__ == "__main__":
    main()
