"""The command that tests what codecs, noise and other conditions do to the error rate."""

import sys
from pathlib import Path

import click

from mqmha_jax.command_line import PATH, SEED, STEP, SectionedCommand, allow_code_option, channel_option


def _list_conditions(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from mqmha_jax.stress.conditions import CONDITIONS, explain_absence
    from mqmha_jax.text_table import align_table

    rows = [["condition", "group", "what happens"]]
    for name, condition in CONDITIONS.items():
        absence = explain_absence(condition, has_rooms=False)
        rows.append([name, condition.group, condition.title + (f" ({absence})" if absence else "")])
    click.echo(align_table(rows))
    ctx.exit()


@click.command(
    cls=SectionedCommand,
    arguments={"WORKDIR": "Work directory of the run."},
    sections={
        "Data": ("audio", "lists", "metadata", "channel", "max_rejected", "step", "allow_code"),
        "Conditions": ("conditions", "list_", "side", "noise", "rooms"),
        "Measures": ("no_mean", "replicates", "seed"),
        "Output": ("output",),
    },
)
@click.argument("workdir", type=PATH)
@click.option("--audio", type=PATH, required=True, help="Folder of the recordings that the lists name.")
@click.option("--trials", "lists", type=PATH, multiple=True, required=True, help="Trial list; may be repeated.")
@click.option(
    "--metadata",
    type=PATH,
    show_default="the folders and labels of the lists",
    help="Speakers: CSV with the columns utterance and speaker, or utt2spk.",
)
@channel_option
@click.option(
    "--max-rejected",
    type=click.IntRange(0),
    default=0,
    help="Leave out at most this many recordings that are missing or cannot be used, with their trials.",
)
@click.option("--conditions", show_default="all", help="Conditions or groups of them, separated by commas.")
@click.option(
    "--list", "list_", is_flag=True, is_eager=True, expose_value=False, callback=_list_conditions,
    help="List all conditions and exit.",
)  # fmt: skip
@click.option(
    "--side",
    type=click.Choice(["both", "test"]),
    default="both",
    help="Sides of the trials that the conditions change; test: the enrolment stays clean.",
)
@click.option("--noise", type=PATH, show_default="made with the spectrum of the recordings", help="Folder of noises.")
@click.option("--rooms", type=PATH, help="Folder of impulse responses, for the condition 'rooms'.")
@click.option("--no-mean", is_flag=True, help="Do not subtract the training set's mean embedding.")
@click.option(
    "--replicates", type=click.IntRange(0), default=1000, help="Bootstrap resamples for intervals; 0: no intervals."
)
@click.option("--seed", type=SEED, default=0, help="Seed of noises, rooms and resamples.")
@click.option("--step", type=STEP, show_default="the newest", help="Checkpoint: a step, or best.")
@click.option("--output", type=PATH, show_default="WORKDIR/stress", help="Directory for the results.")
@allow_code_option
def stress(
    workdir: Path,
    audio: Path,
    lists: tuple[Path, ...],
    metadata: Path | None,
    channel: int | None,
    max_rejected: int,
    conditions: str | None,
    side: str,
    noise: Path | None,
    rooms: Path | None,
    no_mean: bool,
    replicates: int,
    seed: int,
    step: int | str | None,
    output: Path | None,
) -> None:
    """Measure what codecs, noise and rooms do to the error rate.

    Repeats the same trials under every condition and compares each with the clean trials. Run an interrupted command
    again to resume: finished conditions stay in the folder 'embeddings' of the output.
    """
    from tqdm import tqdm

    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()
    from mqmha_jax.data.metadata import NOTHING_KNOWN, read_metadata
    from mqmha_jax.errors import printable
    from mqmha_jax.evaluation.embeddings.audio_source import AudioFolder
    from mqmha_jax.runs.workdir import read_config
    from mqmha_jax.stress.plan import StressPlan
    from mqmha_jax.stress.report import PAGE_FILE, check_output, write_stress
    from mqmha_jax.stress.stress import run_stress
    from mqmha_jax.stress.tables import format_stress

    read_config(workdir)  # before the output makes a directory there
    output = output or workdir / "stress"
    check_output(output, inputs=[*lists, *([metadata] if metadata else [])])
    asked = tuple(name.strip() for name in (conditions or "").split(",") if name.strip())
    test = run_stress(
        workdir,
        AudioFolder(audio, channel, max_rejected),
        lists,
        output / "embeddings",
        StressPlan(asked, side, noise, rooms, not no_mean, replicates, seed),  # type: ignore[arg-type]  # click checked
        known=read_metadata(metadata) if metadata else NOTHING_KNOWN,
        step=step,  # type: ignore[arg-type]
        say=lambda sentence: tqdm.write(printable(sentence), file=sys.stderr),  # above the progress bar
    )
    title = workdir.resolve().name + ("" if step is None else f", step {step}")
    write_stress(output, test, title=title)
    click.echo(printable(format_stress(test)))
    click.echo(f"\nTables, picture and page are in {output}. Open {output / PAGE_FILE} in a browser.")
