"""Programs in the documentation run; links lead to files that are there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.documents import DOCS, blocks, run_command, run_document, write_files
from tests.support.paths import ROOT
from tests.support.tiny_audio import write_audio


def test_parts_of_ones_own_train_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("audio").mkdir()
    for speaker in range(7):
        for take in range(2):
            samples = 0.1 * np.random.default_rng((speaker, take)).standard_normal(16_000)
            write_audio(Path(f"audio/{'abcdefg'[speaker]}-{take}.wav"), samples)
    write_files(DOCS / "extend.md", Path("mine"))
    commands = [block.text for block in blocks(DOCS / "extend.md") if block.language == "bash"]
    for line in "".join(commands).splitlines():
        run_command(line, monkeypatch)
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_loop_of_ones_own_learns_outside_the_project(tmp_path: Path) -> None:
    (loop,) = (block.text for block in blocks(DOCS / "library.md") if block.title)
    assert sum(bool(line.strip()) for line in loop.splitlines()) <= 30
    (tmp_path / "loop.py").write_text(loop)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "loop.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    losses = [float(line) for line in done.stdout.split()]
    assert losses[-1] < losses[0] / 2


def test_the_other_program_for_library_users_runs() -> None:
    for block in blocks(DOCS / "library.md"):
        if block.language == "python" and not block.title:
            exec(compile(block.text, "library.md", "exec"), {})


def markdown_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.splitlines()] or sorted(DOCS.rglob("*.md"))


def test_links_between_documents_lead_to_files() -> None:
    broken = []
    for document in markdown_files():
        text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path = target.partition("#")[0]
            if path and not re.match(r"[a-z]+:", target) and not (document.parent / path).exists():
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)


def run_tutorial(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return run_document(DOCS / "tutorials" / f"{name}.md", monkeypatch)


def test_tutorial_evaluate_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "B is better than A" in run_tutorial("evaluate_scores", monkeypatch)


def test_tutorial_your_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    people = {"train": [f"speaker{number}" for number in range(8)], "eval": ["carla", "dora", "emil"]}
    for part, names in people.items():
        for speaker, name in enumerate(names):
            for take in (1, 2):
                rng = np.random.default_rng((speaker, take, len(part)))
                write_audio(Path("my_speech", part, name, f"call{take}.wav"), 0.1 * rng.standard_normal(16_000))
    said = run_tutorial("your_speech", monkeypatch)
    assert "runs/mine/evaluation" in said
    assert "score" in said


def test_tutorial_own_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = run_tutorial("own_loss", monkeypatch)
    assert "2 cells, 4 runs" in said
    assert "soft" in (tmp_path / "runs" / "study" / "report" / "report.md").read_text()
