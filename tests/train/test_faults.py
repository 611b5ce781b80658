"""A crash before or after any file operation, a full disk, a broken disk: nothing that was saved is lost.

Real faults in real processes (``faulty_jobs.py``), as checkpoints are written in C++ where no patch of Python reaches.
"""

import random
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty_disk import COUNT, CRASH_AFTER, CRASH_BEFORE, CRASHED, IO_ERROR, NO_SPACE, build
from tests.support.faulty_jobs import Server

SAMPLE = 2
MANY = 30  # a fault and the recovery from it take five seconds


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(build(tmp_path_factory.mktemp("library")))
    yield server
    server.close()


class Scene:
    """Work directories before the fault."""

    def __init__(self, server: Server, root: Path) -> None:
        self.server, self.root, self.number = server, root, 0
        self.steps = {"new": 0, "resumed": 2}
        for name, steps in self.steps.items():
            (root / name).mkdir()
            for _ in range(steps):
                assert server.run("resume", root / name)["code"] == 0
        self.undisturbed = {name: self.recovered(self.copy(name)) for name in self.steps}

    def copy(self, name: str) -> Path:
        self.number += 1
        return shutil.copytree(self.root / name, self.root / f"copy{self.number}")

    def recovered(self, workdir: Path) -> dict[str, Any]:
        answer = self.server.run("recover", workdir)
        assert "result" in answer, answer["stderr"]
        assert answer["code"] == 0, answer["stderr"]
        shutil.rmtree(workdir)
        return answer["result"]

    def operations(self, name: str, *, reads: bool) -> int:
        workdir = self.copy(name)
        count = self.server.run("resume", workdir, mode=COUNT, reads=reads)["operations"]
        shutil.rmtree(workdir)
        return count

    def fault(self, name: str, mode: int, at: int, *, reads: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """How a call with a fault ended, and what was found and reached after it."""
        workdir = self.copy(name)
        answer = self.server.run("resume", workdir, mode=mode, at=at, reads=reads)
        what = f"{name}, operation {at}: {answer['stderr']}"
        recovered = self.recovered(workdir)
        before = self.steps[name]
        assert max(recovered["found"]["steps"], default=0) in (before, before + 1), what
        assert {1} <= set(recovered["found"]["steps"]) or not before, what  # the best one
        assert recovered["reached"] == self.undisturbed[name]["reached"], what
        assert recovered["names"] == self.undisturbed[name]["names"], what
        return answer, recovered


@pytest.fixture(scope="module")
def scene(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(server, tmp_path_factory.mktemp("scene"))


def test_an_undisturbed_run_keeps_the_latest_and_the_best(scene: Scene) -> None:
    undisturbed = scene.undisturbed["resumed"]
    assert undisturbed["found"] == {"steps": [1, 2], "best": 1, "logged": [1, 2]}
    assert undisturbed["reached"] == {"steps": [1, 4], "best": 1, "logged": [1, 2, 3, 4]}
    assert not [name for name in undisturbed["names"] if "partial" in name or "tmp" in name]
    assert scene.operations("resumed", reads=True) > scene.operations("resumed", reads=False) > 200


def crash(scene: Scene, name: str, mode: int, at: int, *, reads: bool) -> None:
    answer, _ = scene.fault(name, mode, at, reads=reads)
    # The number of operations differs a little from run to run, as threads meet in another order.
    assert answer["code"] == CRASHED or answer["operations"] < at, answer


@pytest.mark.parametrize(
    ("name", "mode"), [("new", CRASH_AFTER), ("resumed", CRASH_BEFORE)], ids=["new-after", "resumed-before"]
)
def test_a_crash_at_some_file_operations_loses_nothing(scene: Scene, name: str, mode: int) -> None:
    """The last third of the operations commits, and removes old checkpoints."""
    total = scene.operations(name, reads=False)
    draw = random.Random(mode)
    points = draw.sample(range(1, total + 1), SAMPLE // 2) + draw.sample(range(total * 2 // 3, total + 1), SAMPLE // 2)
    for at in points:
        crash(scene, name, mode, at, reads=False)


def spread_over(total: int) -> range:
    """``MANY`` operations, evenly spread over all."""
    return range(1, total + 1, max(1, total // MANY))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [CRASH_BEFORE, CRASH_AFTER], ids=["before", "after"])
@pytest.mark.parametrize("name", ["new", "resumed"])
def test_a_crash_at_file_operations_all_over_a_run_loses_nothing(scene: Scene, name: str, mode: int) -> None:
    reads = mode == CRASH_BEFORE  # after an operation that only reads, the disk is as before it
    for at in spread_over(scene.operations(name, reads=reads)):
        crash(scene, name, mode, at, reads=reads)


def fail(scene: Scene, name: str, mode: int, at: int) -> None:
    """From one operation on, the disk is full or broken: an error says so, unless everything was saved before."""
    answer, recovered = scene.fault(name, mode, at, reads=False)
    if "error" not in answer:
        assert answer["code"] == 0, answer
        assert max(recovered["found"]["steps"]) == scene.steps[name] + 1, answer
        return
    kind, message = answer["error"]
    assert kind == "UserError", answer["stderr"]
    assert ("No space left on device" if mode == NO_SPACE else "Input/output error") in message
    assert "space" in message  # what to do
    # Orbax's threads wait five minutes for a directory that could not be made; else nothing keeps the process.
    in_that_moment = re.search(r"orbax-checkpoint-tmp(/(network|head|training))?'\. Training stops", message)
    assert answer["code"] in ((0, -signal.SIGALRM) if in_that_moment else (0,)), answer


@pytest.mark.parametrize(
    "mode", [pytest.param(NO_SPACE, id="full"), pytest.param(IO_ERROR, id="broken", marks=pytest.mark.slow)]
)
def test_a_full_or_broken_disk_is_reported_and_loses_nothing(scene: Scene, mode: int) -> None:
    for at in random.Random(mode).sample(range(1, scene.operations("resumed", reads=False) + 1), SAMPLE):
        fail(scene, "resumed", mode, at)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [NO_SPACE, IO_ERROR], ids=["full", "broken"])
@pytest.mark.parametrize("name", ["new", "resumed"])
def test_a_disk_that_fills_or_breaks_anywhere_in_a_run_is_reported(scene: Scene, name: str, mode: int) -> None:
    for at in spread_over(scene.operations(name, reads=False)):
        fail(scene, name, mode, at)


@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(scene: Scene, damage: str) -> None:
    workdir = scene.copy("resumed")
    directory = workdir / "checkpoints" / "2"
    for path in sorted(directory.rglob("*" if damage == "empty" else "d/*"), reverse=True):
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:10])
        elif path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    kind, message = scene.server.run("look", workdir)["error"]
    assert kind == "UserError"
    assert "The checkpoint of step 2 in" in message
    assert f"delete {directory} to use another checkpoint. Available steps: 1, 2." in message
