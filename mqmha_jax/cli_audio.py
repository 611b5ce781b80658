"""The commands that embed and compare audio: embed, verify."""

import sys
from pathlib import Path
from typing import Literal

import click

from mqmha_jax.command_line import (
    CONFIDENCE,
    PATH,
    PROBABILITY,
    SECONDS,
    STEP,
    SectionedCommand,
    allow_code_option,
    channel_option,
    warn_unused_probabilities,
)

Step = int | Literal["best"] | None

_STEP = click.option("--step", type=STEP, show_default="the newest", help="Checkpoint: a step, or best.")


@click.command(
    cls=SectionedCommand,
    arguments={"WORKDIR": "Work directory of the run.", "AUDIO": "Audio files, or folders of them."},
)
@click.argument("workdir", type=PATH)
@click.argument("audio", type=PATH, nargs=-1, required=True)
@click.option("--output", type=PATH, default=Path("embeddings.npz"), help="File with ids [N] and vectors [N, E].")
@channel_option
@_STEP
@allow_code_option
def embed(workdir: Path, audio: tuple[Path, ...], output: Path, channel: int | None, step: Step) -> None:
    """Embed audio files with the network of a run.

    The ids are the paths as given or, for a single folder, the paths below it. Names and leaves out files that cannot
    be used, and then exits with status 1. The same command resumes after an interruption.
    """
    from mqmha_jax.runs.run_files import check_output_file

    check_output_file(output, inputs=audio)
    from tqdm import tqdm

    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()
    from mqmha_jax.embed_files import embed_files, list_audio
    from mqmha_jax.errors import UserError, count_noun, printable
    from mqmha_jax.inference import SpeakerEncoder

    def warn(text: str) -> None:
        tqdm.write(f"Warning: {printable(text)}", file=sys.stderr)  # above the progress bar

    unusable: list[UserError] = []

    def leave_out(error: UserError) -> None:
        unusable.append(error)
        tqdm.write(f"Left out: {error}", file=sys.stderr)

    files = list_audio(audio, say=warn, on_error=leave_out)
    check_output_file(output, inputs=files.values())  # those of folders too
    outcome = embed_files(
        SpeakerEncoder.load(workdir, step=step),
        files,
        output,
        channel=channel,
        on_error=leave_out,
        on_warning=warn,
        progress=True,
    )
    resumed = f" ({outcome.num_resumed} of them by an earlier call)" if outcome.num_resumed else ""
    number = count_noun(outcome.num_embedded, "embedding")
    click.echo(f"{number} of size {outcome.dimension} in {output}{resumed}")
    if unusable:
        sys.exit(1)


@click.command(
    cls=SectionedCommand,
    arguments={
        "WORKDIR": "Work directory of the run, best already evaluated.",
        "FIRST": "Audio file.",
        "SECOND": "Audio file.",
    },
)
@click.argument("workdir", type=PATH)
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--prior", type=PROBABILITY, default=0.5, help="Prior probability of the same speaker.")
@click.option(
    "--confidence",
    type=CONFIDENCE,
    default=0.9,
    help="Answer 'unsure' if the answer is less probable than this.",
)
@click.option("--min-speech", type=SECONDS, default=0.5, help="Answer 'unsure' below this many seconds of speech.")
@channel_option
@_STEP
@allow_code_option
def verify(
    workdir: Path,
    first: Path,
    second: Path,
    prior: float,
    confidence: float,
    min_speech: float,
    channel: int | None,
    step: Step,
) -> None:
    """Decide whether two recordings have the same speaker.

    Uses the network of the run, and the threshold and calibration that 'mqmha evaluate' found for it.
    """
    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()
    from mqmha_jax.inference import SpeakerEncoder

    encoder = SpeakerEncoder.load(workdir, step=step)
    found = encoder.verify(first, second, prior=prior, confidence=confidence, min_speech_s=min_speech, channel=channel)
    warn_unused_probabilities(calibrated=encoder.calibration is not None)
    click.echo(found.sentence(workdir, step))
