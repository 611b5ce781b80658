"""The features of a job: from its options, or from a configuration, a run or shards (``--like``)."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError
from mqmha_jax.field_checks import find_refusal


def choose_features(arguments: dict[str, Any]) -> FbankSpec:
    """Takes the features' options out of a command's arguments.

    Args:
      arguments: of the command; ``like`` and the names of FbankSpec's fields are removed.

    Raises:
      UserError: ``--like`` names nothing with features, or an option contradicts it.
    """
    like = arguments.pop("like")
    given = {field.name: arguments.pop(field.name) for field in dataclasses.fields(FbankSpec)}
    if like is None:
        return _validate(given)
    spec = read_features(like)
    context = click.get_current_context()
    for name, value in given.items():
        typed = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if typed and value != getattr(spec, name):
            raise UserError(
                f"{_option(name)} {value} contradicts --like {like}, which has {getattr(spec, name)}. Drop one."
            )
    return spec


def _validate(given: dict[str, Any]) -> FbankSpec:
    import pydantic  # here: --help does without it

    try:
        return pydantic.TypeAdapter(FbankSpec).validate_python(given)
    except pydantic.ValidationError as error:
        if refusal := find_refusal(error.errors()):
            raise refusal from None
        wrong = [f"{_option(str(item['loc'][0]))} {item['input']}: {item['msg'].lower()}" for item in error.errors()]
        raise UserError(f"{'; '.join(wrong)}.") from None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def read_features(path: Path) -> FbankSpec:
    """The features of a configuration file, of a run or of shards.

    Args:
      path: a configuration as ``load_config`` takes it, a work directory, or a directory of shards.

    Raises:
      UserError: the path is none of these, or cannot be read.
    """
    from mqmha_jax.config_io import load_config  # here and below: libraries that --help does without
    from mqmha_jax.data.shard_format import INFO_NAME
    from mqmha_jax.data.shard_reader import open_shards
    from mqmha_jax.runs.run_files import CONFIG_NAME
    from mqmha_jax.runs.workdir import read_config

    if (path / INFO_NAME).is_file():
        return open_shards(path).spec
    if (path / CONFIG_NAME).is_file():
        return read_config(path).fbank
    if path.is_dir():
        raise UserError(
            f"--like {path}: the folder holds neither shards nor a run. Give a configuration, the work directory of a "
            "run, or a directory of shards."
        )
    return load_config(path).fbank
