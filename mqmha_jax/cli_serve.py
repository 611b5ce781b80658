"""The command that serves a network on a web page: serve."""

from pathlib import Path
from typing import Literal

import click

from mqmha_jax.command_line import PATH, STEP, FiniteRange, SectionedCommand, allow_code_option
from mqmha_jax.errors import missing_extra


@click.command(
    cls=SectionedCommand,
    arguments={"WORKDIR": "Work directory of the run, best already evaluated."},
    sections={"Limits": ("max_mib", "max_minutes", "max_requests")},
)
@click.argument("workdir", type=PATH)
@click.option(
    "--store",
    "store_path",
    type=PATH,
    show_default="none: embed and compare only",
    help="Directory of enrolled speakers; it is created if it does not exist.",
)
@click.option(
    "--host", default="127.0.0.1", help="Address to listen on; another one opens the server to other machines."
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, help="Port to listen on; 0: a free one.")
@click.option(
    "--allow-host",
    "host_names",
    metavar="NAME",
    multiple=True,
    help="Name of this server in the address bar, e.g. behind a proxy; repeat for more. Localhost and IP addresses "
    "are always allowed.",
)
@click.option("--max-mib", type=FiniteRange(0, 1e6, min_open=True), default=64.0, help="Maximum size of a request.")
@click.option(
    "--max-minutes", type=FiniteRange(0, 1e6, min_open=True), default=10.0, help="Maximum length of a recording."
)
@click.option(
    "--max-requests",
    type=click.IntRange(1),
    default=16,
    help="Maximum number of requests at a time; the next one gets status 503.",
)
@click.option("--step", type=STEP, show_default="the newest", help="Checkpoint: a step, or best.")
@allow_code_option
def serve(
    workdir: Path,
    store_path: Path | None,
    host: str,
    port: int,
    host_names: tuple[str, ...],
    max_mib: float,
    max_minutes: float,
    max_requests: int,
    step: int | Literal["best"] | None,
) -> None:
    """Serve a network on a web page, with a JSON API.

    The page records or uploads speech, embeds and compares it, and with --store enrols and identifies speakers. Only
    this machine can reach it unless you give --host. Needs the extra 'serve'.
    """
    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()
    from mqmha_jax.inference import SpeakerEncoder

    try:
        from mqmha_jax.serve.limits import Limits
        from mqmha_jax.serve.server import serve as run
    except ModuleNotFoundError as error:
        raise missing_extra(f"'mqmha serve' needs the package {error.name}", "serve") from None

    encoder = SpeakerEncoder.load(workdir, step=step)
    if store_path is None:
        store = None
    else:
        from mqmha_jax.store.speaker_store import SpeakerStore

        store = SpeakerStore.open_or_create(store_path, encoder)
    limits = Limits(max_bytes=int(max_mib * (1 << 20)), max_seconds=60 * max_minutes, max_requests=max_requests)
    run(
        encoder,
        store,
        host=host,
        port=port,
        limits=limits,
        host_names=host_names,
        say=lambda line: click.echo(line, err=line.startswith("Warning")),
    )
