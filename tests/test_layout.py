"""The order of the rooms: a file imports from its own room and from those below it, never from one above."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mqmha_jax
from tests.support.paths import ROOT

# From the bottom to the top; rooms of one line do not import each other.
FLOORS = (
    ("field_names",),
    ("types", "errors", "say", "compilation_cache", "file_hash", "huge_pages", "interrupts", "tpu_library", "flops"),
    ("device_memory", "field_checks"),
    ("config",),
    ("atomic", "python_file", "ready_configs", "parallel", "text_table"),
    ("json_file", "npz_file"),
    ("own_code", "results_directory"),
    ("config_io", "processes"),
    ("command_line",),
    ("features",),
    ("augment",),
    ("data",),
    ("models",),
    ("losses",),
    ("runs",),
    ("interop",),
    ("evaluation",),
    ("train", "verification"),
    ("inference",),
    ("embed_files", "plan", "show", "store", "stress", "study"),
    ("serve",),
    ("data_prep",),
    ("configs",),
    ("demo",),
    ("cli_audio", "cli_evaluation", "cli_import", "cli_serve", "cli_store", "cli_stress", "cli_study", "cli_trials"),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# The same inside a room that has rooms of its own.
INNER_FLOORS = {
    "evaluation": (
        ("leaks", "numbers"),
        ("metrics", "embeddings"),
        ("scoring",),
        ("results",),
        ("report",),
        ("lists",),
        ("list_checks",),
        ("keep_decisions",),
        ("evaluate_lists", "dev_list"),
    ),
}
FILES = sorted(path for folder in ("mqmha_jax", "data_prep", "configs") for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] != "mqmha_jax" else parts[1] if len(parts) > 1 else "mqmha_jax"


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "mqmha_jax" else [node.module]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def is_ours(module: str) -> bool:
    return module.split(".")[0] in {"mqmha_jax", "data_prep", "configs"}


def test_every_file_imports_only_from_below() -> None:
    wrong = []
    for path in FILES:
        module = module_of(path)
        room = room_of(module)
        if room == "mqmha_jax":  # the face of the package re-exports from every room
            continue
        for other in filter(is_ours, imported_modules(path)):
            target = room_of(other)
            if target not in {room, "mqmha_jax", "__version__"} and FLOOR[target] >= FLOOR[room]:
                wrong.append(f"{module} ({room}) imports {other} ({target})")
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_floor() -> None:
    modules = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES)
    rooms = {room_of(module) for module in modules} - {"__init__", "mqmha_jax"}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize("room", INNER_FLOORS)
def test_rooms_inside_a_room_import_only_from_below(room: str) -> None:
    prefix = f"mqmha_jax.{room}."
    floor = {name: i for i, names in enumerate(INNER_FLOORS[room]) for name in names}
    modules = {module_of(path): path for path in FILES}
    ours = {module: path for module, path in modules.items() if module.startswith(prefix)}
    assert {inner_room(module, prefix) for module in ours} == set(floor)
    wrong = []
    for module, path in ours.items():
        own = inner_room(module, prefix)
        for other in imported_modules(path):
            if other.startswith(prefix):
                target = inner_room(other, prefix)
                if target != own and floor[target] >= floor[own]:
                    wrong.append(f"{module} imports {other}")
    assert not wrong, "\n".join(wrong)


def inner_room(module: str, prefix: str) -> str:
    return module.removeprefix(prefix).split(".")[0]


def test_no_files_import_each_other_in_a_circle() -> None:
    """Within a room too, and by imports inside functions as well."""
    modules = {module_of(path): path for path in FILES}
    faces = {"mqmha_jax", "mqmha_jax.train"}  # they import on demand, from all below them
    graph = {m: {*imported_modules(path)} & modules.keys() - faces - {m} for m, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def defined_names(module: str) -> set[str]:
    """What a module defines at its top level, and itself as "". Read from the source: importing it would import JAX."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.exists():
        return set()
    return {""} | {
        getattr(node, "name", None) or ast.unparse(getattr(node, "target", None) or node.targets[0])
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign)
    }


def test_the_public_face_names_what_the_modules_define() -> None:
    for name, module in mqmha_jax._MODULES.items():
        assert name in defined_names(f"mqmha_jax.{module}"), f"mqmha_jax/__init__.py: {name} is not in {module}"


def test_the_reference_names_what_the_modules_define() -> None:
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    assert pages
    for page in pages:
        for path in re.findall(r"^::: (\S+)$", page.read_text(), re.M):
            module, _, name = path.rpartition(".")
            assert name in defined_names(module) or "" in defined_names(path), f"{page.relative_to(ROOT)}: no {path}"
