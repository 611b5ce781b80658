"""A foreign checkpoint becomes a work directory like any other, without a head."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mqmha_jax.config import Config, FbankSpec
from mqmha_jax.config_io import from_dict, to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.interop.checkpoint_file import read_checkpoint_file
from mqmha_jax.interop.families import FAMILIES
from mqmha_jax.interop.import_model import import_model, recognize_families
from mqmha_jax.interop.wespeaker_config import read_wespeaker_config
from mqmha_jax.runs.network_run import write_network_run

CONFIG_FILE = "config.yaml"


class ImportedRun(NamedTuple):
    """What an import found.

    Attributes:
      family: name in ``FAMILIES``.
      others: families whose tensors have the same names.
      config: of the new run.
      origins: option of ``fbank`` -> who set it: ``"option"``, the path of a ``config.yaml``, or the family's default.
      num_parameters: of the network.
      sha256: of the checkpoint file.
    """

    family: str
    others: tuple[str, ...]
    config: Config
    origins: Mapping[str, str]
    num_parameters: int
    sha256: str


def import_run(
    file: Path, workdir: Path, *, family: str | None = None, fbank: Mapping[str, Any] | None = None
) -> ImportedRun:
    """Writes a run with the network of a foreign checkpoint.

    What the tensors do not tell comes from ``fbank``, else from a WeSpeaker ``config.yaml`` beside the file, else it is
    the family's default.

    Args:
      file: PyTorch or safetensors file.
      workdir: a new work directory.
      family: name in ``FAMILIES``; None: recognised by the tensors' names, and WeSpeaker's if there is a
        ``config.yaml``.
      fbank: options of ``FbankSpec`` to set.

    Raises:
      UserError: the file is damaged or of no family that we know, tensors do not fit, or the directory exists.
    """
    if workdir.exists():
        raise UserError(f"{workdir} exists already; give a new --workdir, or remove this one first.")
    state = read_checkpoint_file(file)
    beside = file.with_name(CONFIG_FILE)
    told = read_wespeaker_config(beside) if beside.is_file() else None
    found = [family] if family else recognize_families(list(state))
    if told is not None:
        found.sort(key=lambda name: not name.startswith("wespeaker"))
    chosen = found[0]
    config, origins = _configure(chosen, {str(beside): told or {}, "option": fbank or {}})
    try:
        model = import_model(state, family=chosen, num_features=config.fbank.num_features)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    config = dataclasses.replace(config, model=model.config)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    provenance = {"imported_from": file.name, "sha256": digest, "family": chosen, "fbank": dict(origins)}
    write_network_run(workdir, config, provenance, {"batch_stats": {}, **model.variables}, head={})
    size = sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"]))
    return ImportedRun(chosen, tuple(found[1:]), config, origins, size, digest)


def _configure(family: str, told: Mapping[str, Mapping[str, Any]]) -> tuple[Config, dict[str, str]]:
    """The features: the family's own, changed by each of ``told`` in turn; and who set which option."""
    config = Config(fbank=FAMILIES[family].fbank if family in FAMILIES else FbankSpec())
    origins = {item.name: f"default of {family}" for item in dataclasses.fields(FbankSpec)}
    for origin, options in told.items():
        try:
            config = from_dict({"fbank": {**to_dict(config)["fbank"], **options}})
        except UserError as error:
            raise UserError(f"Features from {origin}: {error}") from None
        origins |= dict.fromkeys(options, origin)
    return config, origins
