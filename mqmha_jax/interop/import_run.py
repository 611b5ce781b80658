"""Turns a foreign checkpoint into a work directory like any other, without a head."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mqmha_jax.atomic import check_new_directory
from mqmha_jax.config import Config, FbankSpec
from mqmha_jax.config_io import from_dict, to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.file_hash import hash_file
from mqmha_jax.interop.checkpoint_file import read_checkpoint_file
from mqmha_jax.interop.families import FAMILIES
from mqmha_jax.interop.import_model import import_model, recognize_families
from mqmha_jax.interop.network_file import read_network_file
from mqmha_jax.interop.wespeaker_config import read_wespeaker_config, require_pooling
from mqmha_jax.runs.network_run import write_network_run

CONFIG_FILE = "config.yaml"
OURS = "mqmha"  # in place of a family, of a file that 'mqmha export' wrote


class LoadedFile(NamedTuple):
    """What a checkpoint file holds.

    Attributes:
      title: name of its kind of network.
      family: name in ``FAMILIES``, or ``"mqmha"`` for a file that ``mqmha export`` wrote.
      others: families that use the same names of tensors.
      config: of the network; options that another toolkit's file does not tell have their defaults.
      variables: ``params`` and ``batch_stats``.
      origins: option of ``fbank`` -> who set it: ``"option"``, the path of a ``config.yaml``, or the family's default.
    """

    title: str
    family: str
    others: tuple[str, ...]
    config: Config
    variables: dict[str, Any]
    origins: Mapping[str, str]


class ImportedRun(NamedTuple):
    """What an import found.

    Attributes:
      file: what the file holds.
      num_parameters: of the network.
      sha256: of the file.
    """

    file: LoadedFile
    num_parameters: int
    sha256: str


def import_run(
    path: Path, workdir: Path, *, family: str | None = None, fbank: Mapping[str, Any] | None = None
) -> ImportedRun:
    """Writes a run with the network of a checkpoint file.

    Args:
      path: PyTorch or safetensors file.
      workdir: a new work directory.
      family: as for ``load_file``.
      fbank: as for ``load_file``.

    Raises:
      UserError: as ``load_file``, or the directory exists.
    """
    check_new_directory(workdir)
    file = load_file(path, family=family, fbank=fbank)
    digest = hash_file(path)
    provenance = {"imported_from": path.name, "file_sha256": digest, "family": file.family, "fbank": dict(file.origins)}
    write_network_run(workdir, file.config, provenance, {"batch_stats": {}, **file.variables}, head={})
    size = sum(leaf.size for leaf in jax.tree.leaves(file.variables["params"]))
    return ImportedRun(file, size, digest)


def load_file(path: Path, *, family: str | None = None, fbank: Mapping[str, Any] | None = None) -> LoadedFile:
    """Loads the network of a checkpoint file.

    Options that the tensors do not determine come from ``fbank``, else from a WeSpeaker ``config.yaml`` next to the
    file, else from the family's defaults. A file that ``mqmha export --format safetensors`` wrote has all options; a
    contradicting option is refused, because the network was trained with these features.

    Args:
      path: PyTorch or safetensors file.
      family: name in ``FAMILIES``; None: recognised by the tensors' names, and WeSpeaker's if there is a
        ``config.yaml``.
      fbank: options of ``FbankSpec`` to set.

    Raises:
      UserError: the file is damaged, belongs to no known family or contradicts an option or the ``config.yaml``, or
        tensors do not fit.
    """
    if path.suffix == ".safetensors" and (ours := read_network_file(path)):
        config, variables = ours
        _refuse_contradiction(path, config, family, fbank or {})
        return LoadedFile("A network of mqmha_jax", OURS, (), config, variables, {})
    state = read_checkpoint_file(path)
    config_yaml = path.with_name(CONFIG_FILE)
    told = read_wespeaker_config(config_yaml) if config_yaml.is_file() else None
    found = [family] if family else recognize_families(list(state))
    if told is not None:
        found.sort(key=lambda name: not name.startswith("wespeaker"))
    chosen, *others = found
    config, origins = _configure(chosen, {str(config_yaml): told.fbank if told else {}, "option": fbank or {}})
    try:
        model = import_model(state, family=chosen, num_features=config.fbank.num_features)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if told is not None:
        require_pooling(config_yaml, told, model.config.pooling.name)
    config = dataclasses.replace(config, model=model.config)
    return LoadedFile(FAMILIES[chosen].title, chosen, tuple(others), config, model.variables, origins)


def _refuse_contradiction(path: Path, config: Config, family: str | None, fbank: Mapping[str, Any]) -> None:
    """Refuses options that differ from the configuration in a file of ours."""
    if family not in (None, OURS):
        raise UserError(f"{path} was written by 'mqmha export' and holds its own network; leave out --family {family}.")
    for name, value in fbank.items():
        if value != (own := getattr(config.fbank, name)):
            raise UserError(
                f"{path} was written by 'mqmha export': its network was trained with fbank.{name}={own}. Leave out "
                f"--{name.replace('_', '-')} {value}."
            )


def _configure(family: str, told: Mapping[str, Mapping[str, Any]]) -> tuple[Config, dict[str, str]]:
    """Starts from the family's features, applies each of ``told`` in turn, and notes who set which option."""
    config = Config(fbank=FAMILIES[family].fbank if family in FAMILIES else FbankSpec())
    origins = {item.name: f"default of {family}" for item in dataclasses.fields(FbankSpec)}
    for origin, options in told.items():
        try:
            config = from_dict({"fbank": {**to_dict(config)["fbank"], **options}})
        except UserError as error:
            raise UserError(f"Features from {origin}: {error}") from None
        origins |= dict.fromkeys(options, origin)
    return config, origins
