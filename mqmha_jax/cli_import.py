"""Commands for models of other toolkits."""

from pathlib import Path
from typing import Any, Literal

import click

from mqmha_jax.command_line import PATH, STEP, FiniteRange, SectionedCommand, allow_code_option, typed_options


@click.command(
    "import",
    cls=SectionedCommand,
    arguments={"FILE": "PyTorch or safetensors checkpoint; a WeSpeaker config.yaml beside it gives the features."},
)
@click.argument("file", type=PATH)
@click.option("--workdir", type=PATH, required=True, help="New work directory for the network.")
@click.option("--family", show_default="recognised by its tensors", help="Kind of network.")
@click.option(
    "--num-mel-bins", type=int, show_default="config.yaml, or the family's", help="Mel bands of the features."
)
@click.option("--window", show_default="config.yaml, or the family's", help="Window: povey or hamming.")
@click.option("--sample-rate-hz", type=int, show_default="config.yaml, or 16000", help="Sample rate of the audio.")
def import_(
    file: Path,
    workdir: Path,
    family: str | None,
    num_mel_bins: int | None,
    window: str | None,
    sample_rate_hz: int | None,
) -> None:
    """Import a network of another toolkit as a run.

    The run has no head. Nothing in the file is executed.
    """
    from mqmha_jax.interop.families import FAMILIES
    from mqmha_jax.interop.import_run import import_run

    options = {"num_mel_bins": num_mel_bins, "window": window, "sample_rate_hz": sample_rate_hz}
    given = {name: value for name, value in options.items() if value is not None}
    run = import_run(file, workdir, family=family, fbank=given)
    config = run.file.config
    click.echo(
        f"{file}: {run.file.title}, {run.num_parameters / 1e6:.2f} million parameters, embeddings of size "
        f"{config.model.embedding_dim}, sha256 {run.sha256}"
    )
    for other in run.file.others:
        click.echo(f"{FAMILIES[other].title} has the same tensors; import it as that with --family {other}.")
    if run.file.family in FAMILIES and (remark := FAMILIES[run.file.family].remark):
        click.echo(f"Note: {remark}")
    for name in options:
        origin = run.file.origins.get(name, "the file's configuration")
        click.echo(f"fbank.{name} = {getattr(config.fbank, name)} ({origin})")
    click.echo(
        f"The run is in {workdir}. Next: 'mqmha verify {workdir} FIRST SECOND' compares two recordings, and 'mqmha "
        f"evaluate {workdir} --data SHARDS --trials LIST --save-threshold' finds the threshold for its answers. No "
        "mean embedding is subtracted, as the training set is not known."
    )


_ENDINGS = {".onnx": "onnx", ".stablehlo": "stablehlo", ".safetensors": "safetensors"}


_OF_PROGRAMS = {"source": "--input", "batch": "--batch", "seconds": "--seconds", "dtype": "--dtype"}


class _NumberOrAny(click.ParamType):
    """A number of a range, or "any"."""

    def __init__(self, number: click.ParamType) -> None:
        self.number = number
        self.name = f"{number.name.removesuffix(' range')}|any"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "any":
            return value
        try:
            float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'any'.", param, ctx)
        return self.number.convert(value, param, ctx)


_BATCH, _SECONDS = _NumberOrAny(click.IntRange(1)), _NumberOrAny(FiniteRange(0, 86_400, min_open=True))


@click.command(cls=SectionedCommand, arguments={"WORKDIR": "Work directory of the run."})
@click.argument("workdir", type=PATH)
@click.option("--output", type=PATH, required=True, help="File to write; for wespeaker, a directory.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["onnx", "stablehlo", "wespeaker", "3dspeaker", "safetensors"]),
    show_default="by the ending of the output, else wespeaker",
    help="onnx: a program that needs no Python; stablehlo: a program that needs only JAX; wespeaker: avg_model.pt and "
    "config.yaml; 3dspeaker: a PyTorch file with 3D-Speaker's names; safetensors: the parameters under our names.",
)
@click.option(
    "--input",
    "source",
    type=click.Choice(["waveform", "fbank"]),
    default="waveform",
    help="onnx, stablehlo: what the program takes, audio samples or filterbank frames.",
)
@click.option("--batch", type=_BATCH, default="any", help="onnx, stablehlo: number of recordings per call.")
@click.option(
    "--seconds",
    type=_SECONDS,
    default="any",
    help="onnx, stablehlo: duration of the recordings.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    help="onnx, stablehlo: type of the weights and of the encoder.",
)
@click.option("--step", type=STEP, show_default="the newest", help="Checkpoint: a step, or best.")
@allow_code_option
def export(
    workdir: Path,
    output: Path,
    file_format: str | None,
    source: str,
    batch: int | str,
    seconds: float | str,
    dtype: str,
    step: int | Literal["best"] | None,
) -> None:
    """Export the network of a run for other programs."""
    from mqmha_jax.interop.export_run import export_3dspeaker, export_program, export_safetensors, export_wespeaker

    file_format = file_format or _find_format(output)
    if file_format not in ("onnx", "stablehlo"):
        _refuse_options_of_programs(file_format)
    if file_format == "safetensors":
        export_safetensors(workdir, output, step=step)
        click.echo(f"The network is in {output}; its metadata hold the configuration.")
        return
    if file_format in ("wespeaker", "3dspeaker"):
        write = export_wespeaker if file_format == "wespeaker" else export_3dspeaker
        exported = write(workdir, output, step=step)
        click.echo(f"{exported.title} is in {output}.")
        remarks = exported.remarks
    else:
        options = {"source": source, "dtype": dtype, "batch": batch, "seconds": seconds}
        remarks = export_program(workdir, output, file_format=file_format, step=step, **options)
        click.echo(f"The network is in {output} ({output.stat().st_size / 1e6:.1f} MB). docs/export.md shows its use.")
    for remark in remarks:
        click.echo(f"Note: {remark}")


def _refuse_options_of_programs(file_format: str) -> None:
    if given := typed_options(_OF_PROGRAMS):
        raise click.UsageError(
            f"--format {file_format} writes the variables as they are, without {' and '.join(given)}: these options "
            "are for onnx and stablehlo."
        )


def _find_format(output: Path) -> str:
    """The format that the ending of the output asks for; a directory is one of wespeaker."""
    if output.suffix and output.suffix not in _ENDINGS and not output.is_dir():
        raise click.UsageError(
            f"The ending of {output} belongs to no format; valid: {', '.join(_ENDINGS)}, or a directory without an "
            "ending for wespeaker. --format sets the format of any other name."
        )
    return _ENDINGS.get(output.suffix, "wespeaker")
