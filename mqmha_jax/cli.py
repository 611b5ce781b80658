"""The ``mqmha`` command: one thin handler per task. Heavy imports happen inside, so that ``--help`` answers at once."""

import functools
import os
import sys
from pathlib import Path

import click

from mqmha_jax import (
    __version__,
    cli_audio,
    cli_evaluation,
    cli_import,
    cli_serve,
    cli_store,
    cli_stress,
    cli_study,
    cli_trials,
)
from mqmha_jax.atomic import write_json
from mqmha_jax.command_line import PATH, SEED, SETTINGS, FiniteRange, SentenceGroup, allow_code_option
from mqmha_jax.tpu_library import hide_unneeded_tpu_library


class _LazyPreparation(click.Group):
    """The commands of ``data_prep``, loaded when they are asked for."""

    @functools.cached_property
    def _loaded(self) -> click.Group:
        from data_prep.cli import prepare

        return prepare

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._loaded.list_commands(ctx)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return self._loaded.get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self._loaded.format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> object:
        return self._loaded.invoke(ctx)


@click.group(
    cls=SentenceGroup,
    context_settings=SETTINGS,
    sections={
        "Start here": ("demo",),
        "Data": ("prep", "make-trials", "import-trials"),
        "Training": ("show", "plan", "train", "average", "study"),
        "Evaluation": ("evaluate", "compare", "stress"),
        "Use": ("embed", "verify", "enrol", "identify", "store", "serve"),
        "Other toolkits": ("import", "export"),
    },
)
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context) -> None:
    """Train, evaluate and use speaker-verification models in JAX.

    MQMHA pooling and the inter-topK penalty (arXiv 2110.05042).
    """
    # grain's worker processes read absl flags, and absl would otherwise parse our arguments.
    from absl import flags, logging

    flags.FLAGS.mark_as_parsed()
    logging.set_verbosity(logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if context.invoked_subcommand != "plan":
        hide_unneeded_tpu_library()


def _keep_compiled_programs() -> None:
    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()


_OVERRIDES = "Options of the configuration, section.option=value, such as train.steps=400."
_SPEAKERS = click.option(
    "--speakers", type=click.IntRange(1), show_default="speakers of data.train", help="Number of speakers (classes)."
)


@main.command(arguments={"OVERRIDES": f"{_OVERRIDES} 'mqmha show demo' lists them."})
@click.option("--workdir", type=PATH, default=Path("runs/demo"), help="Directory for data, checkpoints and results.")
@click.option(
    "--audio",
    type=PATH,
    show_default="synthetic voices",
    help="Your own speech: a folder with one folder per speaker, or a CSV list with columns path and speaker.",
)
@click.option("--seed", type=SEED, default=0, help="Seed of the voices, the split and the training.")
@click.argument("overrides", nargs=-1)
def demo(workdir: Path, audio: Path | None, seed: int, overrides: tuple[str, ...]) -> None:
    """Prepare data, train and evaluate, all in minutes.

    The same command resumes an interrupted demo.
    """
    _keep_compiled_programs()
    from mqmha_jax.demo import run_demo
    from mqmha_jax.train.signals import stop_status

    if not run_demo(workdir, audio=audio, seed=seed, overrides=overrides):
        sys.exit(stop_status())


@main.command(
    arguments={
        "CONFIG": "Configuration: a Python file, or the JSON file of a run.",
        "OVERRIDES": f"{_OVERRIDES} 'mqmha show CONFIG' lists them.",
    }
)
@click.argument("config", type=PATH)
@click.option("--workdir", type=PATH, required=True, help="Directory of the run; an existing run in it is resumed.")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
@click.option("--multi-process", is_flag=True, help="Join the other processes of the job; see launch/README.md.")
@click.option("--deterministic", is_flag=True, help="Repeat a run bit for bit on GPUs too; slower.")
@click.argument("overrides", nargs=-1)
@allow_code_option
def train(
    config: Path, workdir: Path, quiet: bool, multi_process: bool, deterministic: bool, overrides: tuple[str, ...]
) -> None:
    """Train a configuration, or resume its run.

    A run that was stopped or killed resumes bit for bit with the same command; on GPUs, only with --deterministic.
    """
    if deterministic:  # read when jax starts; nothing to do on CPU and TPU
        flags = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])
    _keep_compiled_programs()
    if multi_process:
        from mqmha_jax.processes import join_processes

        join_processes()
    from mqmha_jax.config_io import load_config
    from mqmha_jax.parallel import describe_devices
    from mqmha_jax.train.loop import train as run
    from mqmha_jax.train.signals import stop_status

    experiment = load_config(config, overrides)
    click.echo(f"Training on {describe_devices()}.")
    result = run(experiment, workdir, progress=not quiet)
    click.echo(result.sentence())
    if not result.finished:
        sys.exit(stop_status())


@main.command(arguments={"WORKDIR": "Work directory of the run."})
@click.argument("workdir", type=PATH)
@click.option("--last", type=click.IntRange(1), default=10, help="Number of latest checkpoints to average.")
@click.option("--output", type=PATH, required=True, help="New work directory for the average.")
@click.option(
    "--towards", type=PATH, help="Run that WORKDIR was fine-tuned from; the result is a weighted mean with its network."
)
@click.option(
    "--share", type=FiniteRange(0, 1), show_default="0.5", help="Weight of the network of --towards in the result."
)
@allow_code_option
def average(workdir: Path, last: int, output: Path, towards: Path | None, share: float | None) -> None:
    """Average the last checkpoints of a run into one network.

    The new work directory can be evaluated, and training can start from it.
    """
    from mqmha_jax.runs.average import Towards, average_checkpoints

    if towards is None and share is not None:
        raise click.UsageError("--share is the weight of another run's network; give that run with --towards.")
    share = 0.5 if share is None else share
    steps = average_checkpoints(workdir, last, output, None if towards is None else Towards(towards, share))
    numbers = ", ".join(map(str, steps))
    result = f"The average of the checkpoints of steps {numbers}" if steps[1:] else f"The checkpoint of step {numbers}"
    moved = "" if towards is None else f", moved {share:.0%} of the way to {towards},"
    click.echo(f"{result}{moved} is in {output}")


@main.command(arguments={"CONFIG": "Configuration: a Python or JSON file.", "OVERRIDES": _OVERRIDES})
@click.argument("config", type=PATH)
@click.option(
    "--topology", required=True, help="TPU slice: v5e-256, v6e-8 (chips), v4-32, v5p-128 (TensorCores) or v5e:16x16."
)
@_SPEAKERS
@click.option(
    "--utterances",
    type=click.IntRange(1),
    show_default="those of data.train",
    help="Number of utterances, to count epochs.",
)
@click.option("--one-chip", is_flag=True, help="Also compile for a single chip, for comparison.")
@click.option(
    "--time-limit",
    type=FiniteRange(0, 1e6),
    default=30.0,
    metavar="MINUTES",
    help="Give up if a compilation takes longer; 0: never.",
)
@click.option("--json", "output", type=PATH, metavar="FILE", help="Also write the plan to a JSON file.")
@click.argument("overrides", nargs=-1)
@allow_code_option
def plan(
    config: Path,
    topology: str,
    speakers: int | None,
    utterances: int | None,
    one_chip: bool,
    time_limit: float,
    output: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Predict memory and speed on a TPU slice, without a TPU.

    Needs the TPU compiler (the extra 'plan'). Exits with status 1 if the configuration does not fit.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing runs; a TPU or GPU of this machine stays free
    from mqmha_jax.config_io import load_config
    from mqmha_jax.plan import format_plan, make_plan, plan_to_dict
    from mqmha_jax.plan.compiled import default_cache
    from mqmha_jax.plan.corpus import find_corpus_size
    from mqmha_jax.runs.run_files import check_output_file

    if output:
        check_output_file(output)
    experiment = load_config(config, overrides)
    size = find_corpus_size(experiment.data, speakers, utterances)
    result = make_plan(
        experiment,
        topology,
        num_speakers=size.num_speakers,
        utterances=size.utterances,
        one_chip=one_chip,
        cache=default_cache(),
        time_limit=60 * time_limit if time_limit else None,
        progress=lambda text: click.echo(text, err=True),
    )
    click.echo(format_plan(result))
    if output:
        write_json(output, plan_to_dict(result))
    sys.exit(0 if result.fits else 1)


@main.command(arguments={"CONFIG": "Configuration: a Python or JSON file.", "OVERRIDES": _OVERRIDES})
@click.argument("config", type=PATH)
@_SPEAKERS
@click.argument("overrides", nargs=-1)
@allow_code_option
def show(config: Path, speakers: int | None, overrides: tuple[str, ...]) -> None:
    """Show every option, parameter and shape of a configuration.

    Also counts the floating-point operations. Nothing is trained.
    """
    from mqmha_jax.config_io import load_config
    from mqmha_jax.show import describe

    click.echo(describe(load_config(config, overrides), speakers))


prep = _LazyPreparation("prep", help="Turn audio into shards; inspect and verify shards.")

for command in (
    prep,
    cli_audio.embed,
    cli_audio.verify,
    cli_store.enrol,
    cli_store.identify,
    cli_store.store,
    cli_evaluation.evaluate,
    cli_evaluation.compare,
    cli_trials.make_trials,
    cli_trials.import_trials,
    cli_import.import_,
    cli_import.export,
    cli_serve.serve,
    cli_stress.stress,
    cli_study.study,
):
    main.add_command(command)
