"""Which packages a wheel holds: ours, and the folder ``configs`` as ``mqmha_jax.configs``. All else: pyproject.toml."""

from setuptools import find_packages, setup

packages = find_packages(include=["mqmha_jax", "mqmha_jax.*", "data_prep", "data_prep.*"])
configs = [f"mqmha_jax.{name}" for name in find_packages(include=["configs", "configs.*"])]
setup(packages=[*packages, *configs], package_dir={"mqmha_jax.configs": "configs"})
