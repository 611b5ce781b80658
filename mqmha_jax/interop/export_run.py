"""Writes the network of a run for other toolkits."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mqmha_jax.atomic import check_writable_directory, write_text
from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError
from mqmha_jax.interop.embedding_program import embedding_program
from mqmha_jax.interop.export_model import ExportedModel, export_model
from mqmha_jax.interop.export_onnx import describe_network, write_onnx
from mqmha_jax.interop.export_stablehlo import write_stablehlo
from mqmha_jax.interop.families import FAMILIES
from mqmha_jax.interop.family import NoConstructorError
from mqmha_jax.interop.network_file import write_network_file
from mqmha_jax.interop.toolkit_fbanks import SHERPA, THREE_D_SPEAKER, WESPEAKER, fbank_differences
from mqmha_jax.interop.torch_writer import write_torch_file
from mqmha_jax.interop.wespeaker_config import OUR_OPTIONS, OUR_SECTION
from mqmha_jax.runs.checkpoint_directory import Step
from mqmha_jax.runs.finite import require_finite
from mqmha_jax.runs.load_network import LoadedNetwork, load_network
from mqmha_jax.runs.run_files import check_output_file

TENSORS_FILE, CONFIG_FILE = "avg_model.pt", "config.yaml"
_WESPEAKER_READS = ("sample_rate_hz", "num_mel_bins", "frame_length_ms", "frame_shift_ms")  # from config.yaml
_OURS = "# Written by mqmha export."  # the first line of the configuration; an export replaces only such files


class ExportedRun(NamedTuple):
    """What an export wrote.

    Attributes:
      title: of the family.
      remarks: what the toolkit does differently.
    """

    title: str
    remarks: list[str]


def export_wespeaker(workdir: Path, output: Path, *, step: Step = None) -> ExportedRun:
    """Writes a model directory of WeSpeaker: a state dictionary and a configuration.

    ``avg_model.pt`` has WeSpeaker's names. ``config.yaml`` has the features, and as ``model`` and ``model_args`` what
    builds the network there. If nothing does, a remark says what the user must add.

    Args:
      workdir: of the run.
      output: directory for both files.
      step: of the checkpoint; "best": with the lowest dev EER, None: the newest.

    Raises:
      UserError: there is no such run or checkpoint, its network is not finite, WeSpeaker has no such network or
        features, the directory holds another model, or the files cannot be written.
    """
    _refuse_other_model(output)
    check_writable_directory(output, TENSORS_FILE, CONFIG_FILE)
    network = _load_finite(workdir, step)
    fbank, model = network.config.fbank, network.config.model
    _refuse_energy(fbank, "WeSpeaker")
    exported = export_model(model, network.variables, num_features=fbank.num_features)
    write_torch_file(output / TENSORS_FILE, exported.tensors)
    arguments = {
        "num_mel_bins": fbank.num_mel_bins,
        "frame_length": fbank.frame_length_ms,
        "frame_shift": fbank.frame_shift_ms,
        "dither": 0.0,
    }
    built, missing = _build_in_wespeaker(exported, fbank.num_features)
    own = {name: getattr(fbank, name) for name in OUR_OPTIONS if getattr(fbank, name) != getattr(WESPEAKER, name)}
    settings = {
        "dataset_args": {"resample_rate": fbank.sample_rate_hz, "fbank_args": arguments},
        **built,
        OUR_SECTION: {"window": fbank.window, **own},
    }
    write_text(output / CONFIG_FILE, f"{_OURS}\n{yaml.safe_dump(settings, sort_keys=False)}")
    described = _describe(exported, "WeSpeaker", fbank_differences(fbank, WESPEAKER, ignored=_WESPEAKER_READS))
    return described._replace(remarks=[*missing, *described.remarks])


def _build_in_wespeaker(exported: ExportedModel, num_features: int) -> tuple[dict[str, Any], list[str]]:
    """The keys from which WeSpeaker builds the network, and a remark if it cannot."""
    construct = FAMILIES[exported.family].constructor
    assert construct is not None  # every family of WeSpeaker has one
    try:
        model, arguments = construct(exported.config, num_features)
    except NoConstructorError as reason:
        return {"model_args": {"feat_dim": num_features, "embed_dim": exported.config.embedding_dim}}, [
            f"WeSpeaker cannot build this network: {reason}. {CONFIG_FILE} has the features but no model, and "
            f"{TENSORS_FILE} has the tensors under WeSpeaker's names. Before WeSpeaker can load them, add a function "
            f"that builds the network to its code, and write its name as 'model' and its arguments as 'model_args' "
            f"into {CONFIG_FILE}."
        ]
    return {"model": model, "model_args": arguments}, []


def _refuse_other_model(output: Path) -> None:
    present = [name for name in (TENSORS_FILE, CONFIG_FILE) if (output / name).is_file()]
    config = output / CONFIG_FILE
    if present and not (config.is_file() and config.read_bytes().startswith(_OURS.encode())):
        them = "them" if len(present) > 1 else "it"
        raise UserError(
            f"{output} already holds {' and '.join(present)}, not written by mqmha export, which would replace {them}. "
            f"Give another --output, or move {them} away."
        )


def export_3dspeaker(workdir: Path, output: Path, *, step: Step = None) -> ExportedRun:
    """Writes a state dictionary with 3D-Speaker's names, which its ``infer_sv.py`` loads.

    Args:
      workdir: of the run.
      output: the file.
      step: of the checkpoint; "best": with the lowest dev EER, None: the newest.

    Raises:
      UserError: there is no such run or checkpoint, its network is not finite, 3D-Speaker has no such network or
        features, the output is a file of the run, or it cannot be written.
    """
    check_output_file(output)
    network = _load_finite(workdir, step)
    fbank = network.config.fbank
    _refuse_energy(fbank, "3D-Speaker")
    exported = export_model(
        network.config.model, network.variables, num_features=fbank.num_features, toolkit="3dspeaker"
    )
    write_torch_file(output, exported.tensors)
    return _describe(exported, "3D-Speaker", fbank_differences(fbank, THREE_D_SPEAKER))


def _refuse_energy(fbank: FbankSpec, toolkit: str) -> None:
    if fbank.use_energy:
        raise UserError(
            f"The network was trained with the log energy of each frame (fbank.use_energy=true), which {toolkit} does "
            "not compute. Use --format safetensors."
        )


def _describe(exported: ExportedModel, toolkit: str, differences: list[str]) -> ExportedRun:
    return ExportedRun(FAMILIES[exported.family].title, [*exported.remarks, *_remarks_on_fbank(toolkit, differences)])


def _remarks_on_fbank(toolkit: str, differences: list[str]) -> list[str]:
    if not differences:
        return []
    return [f"{toolkit} computes another filterbank ({'; '.join(differences)}), so its embeddings differ."]


def export_safetensors(workdir: Path, output: Path, *, step: Step = None) -> None:
    """Writes all variables of the network under our names, ``params/encoder/...``, and the configuration.

    Args:
      workdir: of the run.
      output: the file.
      step: of the checkpoint; "best": with the lowest dev EER, None: the newest.

    Raises:
      UserError: there is no such run or checkpoint, its network is not finite, the output is a file of the
        run, or it cannot be written.
    """
    check_output_file(output)
    network = _load_finite(workdir, step)
    write_network_file(output, network.config, network.variables)


def export_program(workdir: Path, output: Path, *, file_format: str, step: Step = None, **options: Any) -> list[str]:
    """Writes the network as a program that runs without this package, from waveform or filterbank to embedding.

    Args:
      workdir: of the run.
      output: the file.
      file_format: ``"onnx"`` or ``"stablehlo"``.
      step: of the checkpoint; "best": with the lowest dev EER, None: the newest.
      **options: of ``embedding_program``.

    Returns:
      Sentences on what the file leaves out or other programs do differently.

    Raises:
      UserError: there is no such run or checkpoint, its network is not finite, the format cannot hold it, the output
        is a file of the run, or it cannot be written.
    """
    check_output_file(output)
    network = _load_finite(workdir, step)
    config = network.config
    program = embedding_program(config, network.variables, **options)
    if file_format == "stablehlo":
        write_stablehlo(output, program)
    else:
        write_onnx(output, program, describe_network(config, program, step=network.step))
    remarks = []
    if config.fbank.dither > 0:
        remarks.append("The file adds no dither.")
    if file_format == "onnx" and program.names[0] == "fbank":
        differences = fbank_differences(config.fbank, SHERPA, ignored=("sample_rate_hz", "dither"))
        remarks += _remarks_on_fbank("sherpa-onnx", differences)
    return remarks


def _load_finite(workdir: Path, step: Step) -> LoadedNetwork:
    network = load_network(workdir, step)
    require_finite(network.variables, f"The network of {workdir} at step {network.step}")
    return network
