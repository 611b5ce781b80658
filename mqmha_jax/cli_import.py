"""Commands for models of other toolkits."""

from pathlib import Path

import click

from mqmha_jax.command_line import PATH, allow_code_option


@click.command("import")
@click.argument("file", type=PATH)
@click.option("--workdir", type=PATH, required=True, help="New work directory for the network.")
@click.option("--family", help="Kind of network.  [default: recognised by its tensors]")
@click.option("--num-mel-bins", type=int, help="Features of the training.  [default: config.yaml, or the family's]")
@click.option("--window", help="Window of the features, povey or hamming.  [default: config.yaml, or the family's]")
@click.option("--sample-rate-hz", type=int, help="Sample rate of the features.  [default: config.yaml, or 16000]")
def import_(
    file: Path,
    workdir: Path,
    family: str | None,
    num_mel_bins: int | None,
    window: str | None,
    sample_rate_hz: int | None,
) -> None:
    """Import the network in FILE, a PyTorch or safetensors checkpoint of another toolkit, as a run without a head.

    Nothing in FILE is executed. A WeSpeaker config.yaml beside FILE tells the features.
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
        f"evaluate {workdir} --data SHARDS --trials LIST' finds the threshold and the calibration for its answers. No "
        "mean embedding is subtracted, as the training set is not known."
    )


@click.command()
@click.argument("workdir", type=PATH)
@click.argument("output", type=PATH)
@click.option(
    "--format",
    "names",
    type=click.Choice(["wespeaker", "safetensors"]),
    default="wespeaker",
    help="WeSpeaker's names in a directory with avg_model.pt and config.yaml, or our names in one safetensors file.",
)
@click.option("--step", type=int, help="Step of the checkpoint.  [default: the newest]")
@allow_code_option
def export(workdir: Path, output: Path, names: str, step: int | None) -> None:
    """Write the network of the run in WORKDIR for other toolkits to OUTPUT."""
    from mqmha_jax.interop.export_run import export_safetensors, export_wespeaker

    if names == "safetensors":
        export_safetensors(workdir, output, step=step)
        click.echo(f"The network is in {output}; its metadata hold the configuration.")
        return
    exported = export_wespeaker(workdir, output, step=step)
    click.echo(f"{exported.title} is in {output}.")
    for remark in exported.remarks:
        click.echo(f"Note: {remark}")
