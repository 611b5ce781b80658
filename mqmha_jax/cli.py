"""The ``mqmha`` command: one thin handler per task. Heavy imports happen inside, so that ``--help`` answers at once."""

import functools
import os
import sys
from pathlib import Path

import click

from mqmha_jax import __version__, cli_evaluation, cli_study
from mqmha_jax.command_line import PATH, SETTINGS, SentenceGroup


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
        "Evaluation": ("evaluate", "compare"),
        "Use": ("embed", "verify"),
    },
)
@click.version_option(__version__)
def main() -> None:
    """Train, evaluate and use speaker-verification models in JAX.

    MQMHA pooling and the inter-topK penalty (arXiv 2110.05042).
    """
    # grain's worker processes read absl flags, and absl would otherwise parse our arguments.
    from absl import flags, logging

    flags.FLAGS.mark_as_parsed()
    logging.set_verbosity(logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _keep_compiled_programs() -> None:
    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()


@main.command()
@click.option("--workdir", type=PATH, default=Path("runs/demo"), help="Where data, checkpoints and results go.")
@click.option(
    "--audio",
    type=PATH,
    help="Your own speech instead of synthetic voices: a folder speaker/**/* or a CSV path,speaker.",
)
@click.option("--seed", type=int, default=0, help="Seed of the voices, the split and the training.")
@click.argument("overrides", nargs=-1)
def demo(workdir: Path, audio: Path | None, seed: int, overrides: tuple[str, ...]) -> None:
    """The whole system in minutes: shards, training, EER, pictures.

    OVERRIDES are section.option=value, e.g. train.steps=400; 'mqmha show demo' lists them all.
    """
    _keep_compiled_programs()
    from mqmha_jax.demo import run_demo

    run_demo(workdir, audio=audio, seed=seed, overrides=overrides)


@main.command()
@click.argument("config", type=PATH)
@click.option("--workdir", type=PATH, required=True, help="Directory of the run; an existing run in it is resumed.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--multi-process", is_flag=True, help="This is one of many processes; see launch/README.md.")
@click.option("--deterministic", is_flag=True, help="The same bits from the same run on GPUs as well, more slowly.")
@click.argument("overrides", nargs=-1)
def train(
    config: Path, workdir: Path, quiet: bool, multi_process: bool, deterministic: bool, overrides: tuple[str, ...]
) -> None:
    """Train CONFIG (a Python or JSON file), or go on where an earlier call stopped.

    OVERRIDES are section.option=value, e.g. data.train=shards/train; 'mqmha show CONFIG' lists them all.
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

    experiment = load_config(config, overrides)
    click.echo(f"Training on {describe_devices()}.")
    result = run(experiment, workdir, progress=not quiet)
    if result.finished:
        click.echo(f"Trained {result.step} steps; waited for data {result.data_wait:.1%} of the time.")
    else:
        click.echo(f"Stopped after step {result.step}; the same command goes on from there.")
        sys.exit(128 + 15)


@main.command()
@click.argument("workdir", type=PATH)
@click.option("--last", type=click.IntRange(1), default=10, help="How many of the latest checkpoints.")
@click.option("--output", type=PATH, required=True, help="New work directory for the result.")
def average(workdir: Path, last: int, output: Path) -> None:
    """Average the last checkpoints of the run in WORKDIR into one network, to evaluate or to start from."""
    from mqmha_jax.runs.average import average_checkpoints

    steps = average_checkpoints(workdir, last, output)
    click.echo(f"The average of the checkpoints of steps {', '.join(map(str, steps))} is in {output}")


@main.command()
@click.argument("workdir", type=PATH)
@click.argument("audio", type=PATH, nargs=-1, required=True)
@click.option("--output", type=PATH, default=Path("embeddings.npz"), help="npz with ids [N] and vectors [N, E].")
def embed(workdir: Path, audio: tuple[Path, ...], output: Path) -> None:
    """Embed AUDIO files with the network in WORKDIR; files that cannot be used are named and left out."""
    _keep_compiled_programs()
    import numpy as np

    from mqmha_jax.inference import SpeakerEncoder

    embeddings = SpeakerEncoder.load(workdir).embed(
        audio, on_error=lambda error: click.echo(f"Left out: {error}", err=True), progress=True
    )
    np.savez(output, ids=np.asarray(embeddings.ids), vectors=embeddings.vectors)
    click.echo(f"{len(embeddings.ids)} embeddings of size {embeddings.vectors.shape[1]} in {output}")
    if len(embeddings.ids) < len(audio):
        sys.exit(1)


@main.command()
@click.argument("workdir", type=PATH)
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--prior", type=float, default=0.5, help="Probability of the same speaker before listening.")
@click.option("--confidence", type=float, default=0.9, help="Below this probability of the answer it is unsure.")
def verify(workdir: Path, first: Path, second: Path, prior: float, confidence: float) -> None:
    """Do two recordings have the same speaker? Uses the network in WORKDIR and what its evaluation found."""
    _keep_compiled_programs()
    from mqmha_jax.inference import SpeakerEncoder

    click.echo(SpeakerEncoder.load(workdir).verify(first, second, prior=prior, confidence=confidence).sentence(workdir))


@main.command()
@click.argument("config", type=PATH)
@click.option(
    "--topology", required=True, help="TPU slice: v5e-256, v6e-8 (chips), v4-32, v5p-128 (TensorCores) or v5e:16x16."
)
@click.option("--speakers", type=int, help="Classes of the head.  [default: speakers of data.train, if it exists]")
@click.option("--utterances", type=int, help="Of the corpus, to count epochs.  [default: those of data.train]")
@click.option("--one-chip", is_flag=True, help="Compile for a single chip too, to compare.")
@click.option("--json", "output", type=PATH, help="Write the plan here as well.")
@click.argument("overrides", nargs=-1)
def plan(
    config: Path,
    topology: str,
    speakers: int | None,
    utterances: int | None,
    one_chip: bool,
    output: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Does CONFIG fit on a TPU slice, and how fast is it? Needs no TPU, only its compiler (the extra 'plan').

    Exits with 1 where it does not fit. OVERRIDES are section.option=value.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing runs; a TPU or GPU of this machine stays free
    import json

    from mqmha_jax.config_io import load_config
    from mqmha_jax.plan import make_plan, plan_data, plan_report
    from mqmha_jax.plan.compiled import default_cache
    from mqmha_jax.plan.corpus import corpus_size

    experiment = load_config(config, overrides)
    size = corpus_size(experiment.data, speakers, utterances)
    result = make_plan(
        experiment,
        topology,
        num_speakers=size.num_speakers,
        utterances=size.utterances,
        one_chip=one_chip,
        cache=default_cache(),
        progress=lambda text: click.echo(text, err=True),
    )
    click.echo(plan_report(result))
    if output:
        output.write_text(json.dumps(plan_data(result), indent=1) + "\n")
    sys.exit(0 if result.fits else 1)


@main.command()
@click.argument("config", type=PATH)
@click.option("--speakers", type=int, help="Classes of the head.  [default: speakers of data.train, if it exists]")
@click.argument("overrides", nargs=-1)
def show(config: Path, speakers: int | None, overrides: tuple[str, ...]) -> None:
    """What CONFIG resolves to: every option, the parameters, the shapes on the way, FLOPs."""
    from mqmha_jax.config_io import load_config
    from mqmha_jax.show import describe

    click.echo(describe(load_config(config, overrides), speakers))


prep = _LazyPreparation("prep", help="Turn audio into shards of fbank features; inspect and verify shards.")

for command in (
    prep,
    cli_evaluation.evaluate,
    cli_evaluation.compare,
    cli_evaluation.make_trials,
    cli_evaluation.import_trials,
    cli_study.study,
):
    main.add_command(command)
