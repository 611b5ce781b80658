"""Commands for models of other toolkits."""

from pathlib import Path

import click

from mqmha_jax.command_line import PATH, SectionedCommand, allow_code_option


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


@click.command(
    cls=SectionedCommand,
    arguments={"WORKDIR": "Work directory of the run.", "OUTPUT": "Directory (wespeaker) or file (safetensors)."},
)
@click.argument("workdir", type=PATH)
@click.argument("output", type=PATH)
@click.option(
    "--format",
    "names",
    type=click.Choice(["wespeaker", "safetensors"]),
    default="wespeaker",
    help="WeSpeaker's names in a directory with avg_model.pt and config.yaml, or our names in one safetensors file.",
)
@click.option("--step", type=int, show_default="the newest", help="Step of the checkpoint.")
@allow_code_option
def export(workdir: Path, output: Path, names: str, step: int | None) -> None:
    """Export the network of a run for other toolkits."""
    from mqmha_jax.interop.export_run import export_safetensors, export_wespeaker

    if names == "safetensors":
        export_safetensors(workdir, output, step=step)
        click.echo(f"The network is in {output}; its metadata hold the configuration.")
        return
    exported = export_wespeaker(workdir, output, step=step)
    click.echo(f"{exported.title} is in {output}.")
    for remark in exported.remarks:
        click.echo(f"Note: {remark}")
