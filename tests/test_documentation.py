"""Programs in the documentation run; links lead to files that are there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
import pytest

import mqmha_jax
from mqmha_jax.cli import main
from mqmha_jax.config import Config, ModelConfig, part
from mqmha_jax.config_io import options
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs.network_run import write_network_run
from mqmha_jax.runs.state import initial_network
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


def test_the_other_programs_for_library_users_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks(DOCS / "library.md"):
        if block.language == "python" and not block.title:
            exec(compile(block.text, "library.md", "exec"), names)
    prototypes = names["params"]["prototypes"]
    assert jax.device_count() > 1
    assert {len(part.data) for part in prototypes.addressable_shards} == {len(prototypes) // jax.device_count()}
    losses = [float(line.split(",")[0]) for line in capsys.readouterr().out.splitlines()]
    assert losses[-1] < losses[0] / 2


def test_every_public_name_is_in_the_reference_and_on_the_page_for_library_users() -> None:
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    listed = set(re.findall(r"^::: (\S+)$", pages, re.M))
    registries = re.findall(r"<!-- classes of (\w+) -->", pages)  # the site lists their classes
    for registry in registries:
        builders = [getattr(builder, "func", builder) for builder in getattr(mqmha_jax, registry).values()]
        listed |= {f"{builder.__module__}.{builder.__qualname__}" for builder in builders}
    paths = {name: f"mqmha_jax.{module}.{name}" for name, module in mqmha_jax._MODULES.items()}
    assert not [name for name, path in paths.items() if path not in listed and name not in registries]
    library = (DOCS / "library.md").read_text()
    assert not [name for name in paths if f"`{name}`" not in library]


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


def table_rows(text: str) -> Iterator[tuple[int, str, str]]:
    """Rows below the header of each table, with their line number and the header."""
    header = ""
    for number, line in enumerate(re.sub(r"^```.*?^```$", hide, text, flags=re.M | re.S).splitlines(), 1):
        if header and line.startswith("|"):
            yield number, line, header
        header = (header or line) if line.startswith("|") else ""


def hide(block: re.Match[str]) -> str:
    return "\n" * block[0].count("\n")


def test_rows_of_tables_have_as_many_cells_as_their_header() -> None:
    def count(row: str) -> int:
        return len(re.findall(r"(?<!\\)\|", row))

    torn = [
        f"{document.relative_to(ROOT)}:{number}: {row}"
        for document in markdown_files()
        for number, row, header in table_rows(document.read_text())
        if count(row) != count(header)
    ]
    assert not torn, "\n".join(torn)


SECTIONS = "|".join(sorted({option.name.split(".")[0] for option in options()}))
OPTION = re.compile(rf"`(?:mqmha [^`]*? )?(({SECTIONS})\.[a-z_]+)(?:\.[a-z_]+)?(?:=[^`]*)?`")


def test_options_in_documents_exist() -> None:
    names = {option.name for option in options()}
    wrong = [
        f"{document.relative_to(ROOT)}: {found[1]}"
        for document in markdown_files()
        for found in OPTION.finditer(document.read_text())
        if found[1] not in names and not found[1].endswith((".py", ".md", ".json", ".npz"))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    reports = {page for page in pages if re.fullmatch(r"studies/\w+/report\.md", page)}  # studies/README.md links them
    missing = [page for page in sorted(pages - reports) if not re.search(rf"[ -]{re.escape(page)}$", navigation, re.M)]
    assert not missing, f"add to nav in mkdocs.yml: {', '.join(missing)}"


def commands(text: str) -> Iterator[str]:
    """Lines with a command of ours, joined where a backslash continues them, and commands in the running text."""
    joined = re.sub(r"\\\n\s*", "", text)
    yield from re.findall(r"^(?:    |\$ )?(?:mqmha|python -m data_prep) [^\n]*", joined, re.M)
    yield from re.findall(r"`((?:mqmha|python -m data_prep) [^`]+)`", joined)


def test_commands_in_documents_exist_with_their_options() -> None:
    wrong = []
    for document in markdown_files():
        for line in commands(document.read_text()):
            words = re.sub(r'"[^"]*"', "", line.replace("python -m data_prep", "mqmha prep").split("#")[0]).split()
            command: click.Command | None = main
            for word in words[1:]:
                if not isinstance(command, click.Group):
                    break
                command = command.get_command(click.Context(command), word)
                if command is None and re.fullmatch(r"[a-z][a-z0-9-]*", word):
                    wrong.append(f"{document.relative_to(ROOT)}: {line.strip()}: no command {word}")
            if command is None or isinstance(command, click.Group):
                continue
            known = {"--help"}.union(*(option.opts + option.secondary_opts for option in command.params))
            given = re.findall(r"(?<!\S)--[a-z][a-z-]*", " ".join(words))
            wrong += [f"{document.relative_to(ROOT)}: {line.strip()}: no option {o}" for o in given if o not in known]
    assert not wrong, "\n".join(wrong)


def run_tutorial(name: str, monkeypatch: pytest.MonkeyPatch, **options: Mapping[str, str]) -> str:
    return run_document(DOCS / "tutorials" / f"{name}.md", monkeypatch, **options)


def test_tutorial_evaluate_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "B is better than A" in run_tutorial("evaluate_scores", monkeypatch)


def write_people(people: Mapping[str, Sequence[str]]) -> None:
    """Two recordings of each person, in the folder of each part."""
    for folder, names in people.items():
        for speaker, name in enumerate(names):
            for take in (1, 2):
                rng = np.random.default_rng((speaker, take, len(folder)))
                write_audio(Path("my_speech", folder, name, f"call{take}.wav"), 0.1 * rng.standard_normal(16_000))


def test_tutorial_your_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_people({"train": [f"speaker{number}" for number in range(8)], "eval": ["carla", "dora", "emil"]})
    said = run_tutorial("your_speech", monkeypatch)
    assert "runs/mine/evaluation" in said
    assert "score" in said


@pytest.mark.slow
def test_tutorial_fine_tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_people({"train": [f"speaker{number}" for number in range(8)], "eval": ["carla", "dora", "emil"]})
    encoder = part("tdnn", channels=8, final_channels=8, kernel_sizes=[3], dilations=[1])
    config = Config(model=ModelConfig(encoder=encoder, pooling=part("tstp"), embedding_dim=6))
    network = initial_network(config, build_speaker_net(config.model))
    write_network_run(Path("runs/pretrained"), config, {}, network, head={})
    said = run_tutorial("fine_tune", monkeypatch)
    assert "moved 50% of the way to runs/pretrained" in said
    assert "B: after" in said


@pytest.mark.slow  # a study of several runs
def test_tutorial_own_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = run_tutorial("own_loss", monkeypatch, smaller={"seeds=(0, 1)": "seeds=(0,)"})
    assert "2 cells, 2 runs" in said
    assert "soft" in (tmp_path / "runs" / "study" / "report" / "report.md").read_text()
