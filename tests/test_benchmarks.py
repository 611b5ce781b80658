"""The names that benchmarks import from the package, and patch in it, exist: no test runs the scripts themselves."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

OURS = ("mqmha_jax", "data_prep", "configs")
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
SIBLINGS = {path.stem: path for path in SCRIPTS}


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def patched(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("mock.patch", "mock.patch.object"):
            yield node


def defined(script: Path) -> set[str]:
    tree = ast.parse(script.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    }


def find(module: str, name: str) -> object:
    """What ``from MODULE import NAME`` gives."""
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_and_patches_exists(script: Path) -> None:
    tree = ast.parse(script.read_text())
    given = {}
    for module, name in imported(tree):
        if module.partition(".")[0] in OURS:
            given[name] = find(module, name) if name else importlib.import_module(module)
        elif module in SIBLINGS and name:
            assert name in defined(SIBLINGS[module]), f"{script.name} imports {name} from {module}.py"
    for call in patched(tree):
        if ast.unparse(call.func) == "mock.patch":
            pkgutil.resolve_name(ast.literal_eval(call.args[0]))
        else:
            assert hasattr(given[ast.unparse(call.args[0])], ast.literal_eval(call.args[1]))
