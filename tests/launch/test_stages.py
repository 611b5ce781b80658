"""Stages: done once for their inputs, resumed, redone with all that follow when an input changes."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mqmha_jax.errors import UserError
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def stages() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "launch"))
    try:
        import stages

        yield stages
    finally:
        sys.path.remove(str(ROOT / "launch"))


class Job:
    """Three stages in a row and one beside them, each of which notes that it worked."""

    def __init__(self, module: Any, root: Path, source: Path, **settings: int) -> None:
        self.worked: list[str] = []
        self.module, self.root = module, root
        sums = module.Checksums(root / "checksums.json")
        root.mkdir(exist_ok=True)
        first = self.stage("first", inputs={"source": sums.of(source)})
        beside = self.stage("beside")
        second = self.stage("second", after=[first], settings=settings)
        third = self.stage("third", after=[second, beside])
        self.stages = [first, beside, second, third]

    def stage(self, name: str, **options: Any) -> Any:
        def work(folder: Path) -> Mapping[str, Any]:
            self.worked.append(name)
            if (self.root / f"fail-{name}").exists():
                (folder / "half").write_text("made")
                raise UserError(f"{name} fails")
            return {"resumed": (folder / "half").exists()}

        cost = self.module.Cost(2e9, 3600, "assumed")
        return self.module.Stage(
            name=name, root=self.root, work=work, cost=lambda: cost, shown=lambda folder: [f"make {name}"], **options
        )

    def run(self, **options: Any) -> list[str]:
        said: list[str] = []
        self.module.run_stages(self.stages, **{"until": None, "dry_run": False, "say": said.append} | options)
        return said


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("one")
    return path


def test_stages_are_done_once_and_a_changed_input_redoes_those_that_follow(
    stages: Any, tmp_path: Path, source: Path
) -> None:
    def run(**settings: int) -> list[str]:
        job = Job(stages, tmp_path / "work", source, **settings)
        job.run()
        return job.worked

    assert run() == ["first", "beside", "second", "third"]
    assert run() == []
    os.utime(source, (1, 1))  # touched, not changed
    assert run() == []
    source.write_text("two")
    assert run() == ["first", "second", "third"]
    assert run(epochs=3) == ["second", "third"]
    source.write_text("one")  # earlier results are still there
    assert run() == []


def test_a_stage_that_failed_goes_on_in_its_folder(stages: Any, tmp_path: Path, source: Path) -> None:
    mark = tmp_path / "work" / "fail-second"
    job = Job(stages, tmp_path / "work", source)
    mark.touch()
    with pytest.raises(UserError, match="second fails"):
        job.run()
    mark.unlink()
    said = job.run()
    assert job.worked == ["first", "beside", "second", "second", "third"]
    assert said[0].startswith("1. first: done, in first-")
    assert said[2].startswith("3. second: resumes, about 2.0 GB, 1.0 h (assumed), in second-")
    record = job.stages[2].record()
    assert record["facts"] == {"resumed": True}
    assert record["attempts"] == 2
    assert record["after"] == {"first": job.stages[0].key}


def test_a_dry_run_shows_stages_commands_and_costs_and_does_nothing(stages: Any, tmp_path: Path, source: Path) -> None:
    job = Job(stages, tmp_path / "work", source)
    said = job.run(dry_run=True)
    assert said[1].strip() == "make first"
    assert said[-1] == "To do: about 8.0 GB, 4.0 h."
    assert job.worked == []
    job.run(until="beside")
    assert job.worked == ["first", "beside"]
    assert job.run(dry_run=True)[-1] == "To do: about 4.0 GB, 2.0 h."
    with pytest.raises(UserError, match=r"--until forth: no stage has this name\. Stages, in order: first, beside, "):
        job.run(until="forth")


def test_a_changed_record_and_a_second_process_are_refused(stages: Any, tmp_path: Path, source: Path) -> None:
    job = Job(stages, tmp_path / "work", source)
    job.run()
    path = job.stages[0].folder / "stage.json"
    path.write_text(path.read_text().replace('"attempts": 1', '"attempts": 2'))
    with pytest.raises(UserError, match=r"stage\.json differs from what was written.*Remove the folder"):
        job.stages[0].record()
    with stages._lock(tmp_path / "work"), pytest.raises(UserError, match="Another process works in"):
        Job(stages, tmp_path / "work", source, epochs=5).run()


def test_a_folder_is_known_by_names_and_sizes(stages: Any, tmp_path: Path) -> None:
    sums = stages.Checksums(tmp_path / "checksums.json")
    (tmp_path / "corpus" / "a").mkdir(parents=True)
    (tmp_path / "corpus" / "a" / "1.wav").write_text("x")
    first = sums.of(tmp_path / "corpus")
    assert sums.of(tmp_path / "corpus") == first
    (tmp_path / "corpus" / "a" / "2.wav").write_text("yy")
    assert sums.of(tmp_path / "corpus") != first
    with pytest.raises(UserError, match="gone cannot be read"):
        sums.of(tmp_path / "gone")


def test_damaged_checksums_are_named(stages: Any, tmp_path: Path) -> None:
    (tmp_path / "checksums.json").write_text("{")
    with pytest.raises(UserError, match=r"checksums\.json .*Remove it: the sums are computed again"):
        stages.Checksums(tmp_path / "checksums.json")
