"""The package as a library: its public face, and the documentation's programs run from outside the project."""

import ast
import subprocess
import sys
import tomllib

import pytest

import mqmha_jax
from tests.support.paths import ROOT

FACE = ROOT / "mqmha_jax" / "__init__.py"


def test_importing_the_package_loads_no_library() -> None:
    """The import is quick, because it loads only the standard library."""
    program = (
        "import sys, mqmha_jax\n"
        "heavy = {'jax', 'flax', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in mqmha_jax._MODULES:
        value = getattr(mqmha_jax, name)
        assert callable(value) or isinstance(value, dict), name
        assert value.__doc__, name
    assert set(mqmha_jax._MODULES) <= set(dir(mqmha_jax))
    assert mqmha_jax.equal_error_rate is mqmha_jax.equal_error_rate


def test_a_star_imports_every_public_name() -> None:
    names: dict[str, object] = {}
    exec("from mqmha_jax import *", names)
    assert names.keys() - {"__builtins__"} == {*mqmha_jax._MODULES, "train"}
    assert names["MQMHA"] is mqmha_jax.MQMHA


def test_the_package_and_its_project_file_have_one_version() -> None:
    """It stands twice: the images install from pyproject.toml before the package's files are there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert mqmha_jax.__version__ == project["version"]


def test_the_function_that_trains_is_in_its_package() -> None:
    from mqmha_jax.train import loop

    assert mqmha_jax.train.train is loop.train
    assert mqmha_jax.train.TrainResult is loop.TrainResult


def test_type_checkers_see_the_names_that_python_sees() -> None:
    (block,) = (node for node in ast.parse(FACE.read_text()).body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}.{alias.name}".removeprefix("mqmha_jax.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {"train": "train"} | {name: f"{module}.{name}" for name, module in mqmha_jax._MODULES.items()}
    assert (FACE.parent / "py.typed").exists()


@pytest.mark.parametrize("name", ["equal_eror_rate", "numpy", "losses_"])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'mqmha_jax' has no attribute '{name}'"):
        getattr(mqmha_jax, name)
