"""The commands that make trial lists: make-trials and import-trials."""

from pathlib import Path

import click

from mqmha_jax.command_line import PATH as _PATH
from mqmha_jax.command_line import SEED, SectionedCommand


@click.command(
    "make-trials",
    cls=SectionedCommand,
    arguments={"DATA": "Shards, or a CSV with the columns utterance and speaker.", "OUTPUT": "The trial list."},
)
@click.argument("data", type=_PATH)
@click.argument("output", type=_PATH)
@click.option(
    "--session",
    show_default="session, if it exists",
    help='Column with the session, or "none"; target trials pair different sessions.',
)
@click.option(
    "--gender",
    show_default="gender, if it exists",
    help='Column with the gender, or "none"; nontarget trials pair equal genders, and unknown genders with all.',
)
@click.option(
    "--per-speaker", type=click.IntRange(1), default=200, help="Maximum number of trials of each kind per speaker."
)
@click.option("--seed", type=SEED, default=0, help="Seed of the draw.")
@click.option("--not-in", type=_PATH, help="Training shards or run; refuse speakers that are in it.")
def make_trials(
    data: Path, output: Path, session: str | None, gender: str | None, per_speaker: int, seed: int, not_in: Path | None
) -> None:
    """Draw a trial list for your own data."""
    from data_prep.trials import draw_trials, write_trials
    from mqmha_jax.runs.run_files import check_output_file

    check_output_file(output, inputs=[data])
    trials, said = draw_trials(data, session=session, gender=gender, per_speaker=per_speaker, seed=seed, not_in=not_in)
    write_trials(output, trials)
    click.echo(f"{output}: {said}")


@click.command(
    "import-trials",
    cls=SectionedCommand,
    arguments={
        "FORM": "Whose list it is: voxceleb, cnceleb or voxsrc.",
        "OFFICIAL": "The list as downloaded.",
        "OUTPUT": "The list for 'mqmha evaluate --trials'.",
    },
)
@click.argument("form", metavar="FORM", type=click.Choice(["voxceleb", "cnceleb", "voxsrc"]))
@click.argument("official", type=_PATH)
@click.argument("output", type=_PATH)
@click.option("--enrol-list", type=_PATH, show_default="beside OFFICIAL", help="enroll.lst of CN-Celeb.")
@click.option("--enrol-map", type=_PATH, show_default="beside OFFICIAL", help="enroll.map of CN-Celeb.")
@click.option("--suffix", help="Ending of your audio files, such as .flac, if it differs from the list's.")
def import_trials(
    form: str, official: Path, output: Path, enrol_list: Path | None, enrol_map: Path | None, suffix: str | None
) -> None:
    """Check an official trial list and write it with our ids.

    For CN-Celeb, also writes OUTPUT.map: the utterances of each enrolment, for 'mqmha evaluate --enrol-map'.
    """
    from data_prep.official_lists import import_official, write_models
    from data_prep.trials import write_trials
    from mqmha_jax.errors import UserError, count_noun
    from mqmha_jax.runs.run_files import check_output_file

    map_path = output.with_name(f"{output.name}.map")
    inputs = [path for path in (official, enrol_list, enrol_map) if path]
    check_output_file(output, inputs=inputs)
    if form == "cnceleb":
        check_output_file(map_path, inputs=inputs)
    elif enrol_list or enrol_map:
        raise UserError(f"--enrol-list and --enrol-map belong to CN-Celeb; leave them out with {form}.")
    trials, models, said = import_official(form, official, enrol_list=enrol_list, enrol_map=enrol_map, suffix=suffix)
    write_trials(output, trials)
    click.echo(f"{output}: {said}")
    if models:
        write_models(map_path, models)
        click.echo(
            f"{map_path}: the utterances of {count_noun(len(models), 'enrolment')}, for 'mqmha evaluate --enrol-map'."
        )
