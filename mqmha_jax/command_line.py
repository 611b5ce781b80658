"""Shared by both command lines: help in sections, readable errors, and hints for misplaced options."""

import difflib
import math
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mqmha_jax.device_memory import describe_exhaustion
from mqmha_jax.errors import UserError
from mqmha_jax.own_code.mistakes import describe_mistake
from mqmha_jax.own_code.trust import code_allowed

PATH = click.Path(path_type=Path)


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN, which every comparison with a bound lets pass, and without infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        return number if math.isfinite(number) else self.fail(f"{value} is not a finite number.", param, ctx)


SEED = click.IntRange(0, 2**31 - 1)
PROBABILITY = FiniteRange(0, 1, min_open=True, max_open=True)
CONFIDENCE = FiniteRange(0.5, 1, max_open=True)
SECONDS = FiniteRange(0)


class _Step(click.ParamType):
    """A step, or the word "best"."""

    name = "integer|best"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or the word."""
        if value == "best" or isinstance(value, int):
            return value
        if not str(value).isdigit():
            self.fail(f"{value!r} is not a step; write its number, such as 3000, or best.", param, ctx)
        return int(value)


STEP = _Step()
channel_option = click.option(
    "--channel", type=click.IntRange(0), show_default="the mean of all", help="Channel of the files, from 0."
)
"""Adds ``--channel`` to a command that reads audio files."""
_ALIKE = 0.7  # options that are less like the one that was given are no answer: --prior for --work
_DEBUG = f"{__name__}.debug"
SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110}


def typed_options(options: Mapping[str, str]) -> list[str]:
    """Those of a command's options that the user typed: the default of an option is no wish.

    Args:
      options: the options by the names of the command's parameters, e.g. ``{"top_n": "--top-n"}``.
    """
    source = click.get_current_context().get_parameter_source
    return [option for name, option in options.items() if source(name) is click.core.ParameterSource.COMMANDLINE]


def warn_unused_probabilities(*, calibrated: bool, threshold: float | None = None) -> None:
    """Warns if the user typed ``--prior`` or ``--confidence`` and no calibration uses them.

    Args:
      calibrated: whether the run has a calibration.
      threshold: of the command line; it decides in place of the calibration.
    """
    if calibrated and threshold is None:
        return
    reason = (
        "--threshold decides"
        if threshold is not None
        else "the run has no calibration ('mqmha evaluate --calibrate LIST' finds one)"
    )
    if given := typed_options({"prior": "--prior", "confidence": "--confidence"}):
        verb = "has" if len(given) == 1 else "have"
        click.echo(f"Warning: {' and '.join(given)} {verb} no effect: {reason}.", err=True)


def allow_code_option(command: Callable[..., None]) -> Callable[..., None]:
    """Adds ``--allow-code``, which holds while the command runs."""

    def allow(ctx: click.Context, param: click.Parameter, allowed: bool) -> None:
        ctx.with_resource(code_allowed(allowed))

    text = "Run Python files of the run or configuration that you have not trained with."
    return click.option("--allow-code", is_flag=True, expose_value=False, callback=allow, help=text)(command)


class SectionedCommand(click.Command):
    """A command whose help explains its arguments and lists its options in sections.

    Args:
      arguments: meaning of each positional argument, by its name in the help.
      sections: names of the parameters in each section, by the section's title; the rest follow as "Options".
    """

    def __init__(
        self,
        *args: Any,
        arguments: Mapping[str, str] | None = None,
        sections: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.arguments = dict(arguments or {})
        self.sections = {title: tuple(names) for title, names in (sections or {}).items()}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the arguments and the sections of options."""
        _write_rows(formatter, "Arguments", list(self.arguments.items()))
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in (*self.sections, "Options")}
        section_of = {name: title for title, names in self.sections.items() for name in names}
        for parameter in self.get_params(ctx):
            # Of an argument, newer versions of click have a row, too; ours stand above.
            if isinstance(parameter, click.Option) and (row := parameter.get_help_record(ctx)):
                rows[section_of.get(parameter.name or "", "Options")].append(row)
        for title, section in rows.items():
            _write_rows(formatter, title, section)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the words; for an option of the configuration, the error shows how to write it."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if any(parameter.name == "overrides" for parameter in self.params):
                _explain_override(error.option_name, given, ctx)
            self._explain_argument(error.option_name, ctx)
            alike = difflib.get_close_matches(error.option_name, error.possibilities or (), cutoff=_ALIKE)
            raise click.NoSuchOption(error.option_name, possibilities=alike, ctx=ctx) from None

    def _explain_argument(self, option: str, ctx: click.Context) -> None:
        """Raises the answer to ``--work DIR`` where WORKDIR is an argument."""
        wanted = option.lstrip("-").upper()
        named = [name for name in self.arguments if len(wanted) > 1 and name.startswith(wanted)]
        if named:
            usage = " ".join([ctx.command_path, *self.arguments])
            raise click.UsageError(f"No such option: {option}. {named[0]} is given without a name: {usage}", ctx)


class SectionedGroup(click.Group):
    """A group whose help lists its commands in sections.

    Args:
      sections: names of the commands in each section, by the section's title; the rest follow as "Commands".
    """

    command_class = SectionedCommand

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = {title: tuple(names) for title, names in (sections or {}).items()}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections of commands."""
        names = self.list_commands(ctx)
        rest = [name for name in names if not any(name in section for section in self.sections.values())]
        limit = formatter.width - 6 - max(map(len, names))
        for title, section in {**self.sections, "Commands": rest}.items():
            commands = {name: self.get_command(ctx, name) for name in section}
            rows = [(name, command.get_short_help_str(limit)) for name, command in commands.items() if command]
            _write_rows(formatter, title, rows)


class SentenceGroup(SectionedGroup):
    """Prints a user's mistake as one sentence; with the option --debug, after the traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        text = "Also show the traceback of an error."
        self.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, callback=_keep_debug, help=text))

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command that was named."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _end(ctx, error, str(error)) from error
        except Exception as error:
            sentence = describe_mistake(error) or describe_exhaustion(error)
            if sentence is None:
                raise
            raise _end(ctx, error, sentence) from error


def _keep_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_DEBUG] = value


def _end(ctx: click.Context, error: Exception, sentence: str) -> click.ClickException:
    if ctx.meta.get(_DEBUG):
        traceback.print_exception(error)
    return click.ClickException(sentence)


def _write_rows(formatter: click.HelpFormatter, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def _explain_override(option: str, given: Sequence[str], ctx: click.Context) -> None:
    """Raises the answer to ``--steps 5``, which is ``train.steps=5``, if the configuration has such an option."""
    from mqmha_jax.config_io import options  # here: pydantic, which --help does without

    wanted = option.lstrip("-").replace("-", "_")
    names = [item.name for item in options() if wanted in (item.name, item.name.rpartition(".")[2])]
    if wanted == "data":  # what other commands call --data; the option of this name counts devices
        names = ["data.train"]
    if not names:
        return
    value = "VALUE"
    for place, word in enumerate(given):
        if word.startswith(f"{option}="):
            value = word.partition("=")[2]
        elif word == option and place + 1 < len(given) and not given[place + 1].startswith("-"):
            value = given[place + 1]
    written = " or ".join(f"{name}={value}" for name in names)
    raise click.UsageError(f"No such option: {option}. Write options of the configuration as {written}.", ctx)


def paragraph(text: str) -> str:
    """A docstring's text as one line, without the marks around code."""
    return " ".join(textwrap.dedent(text).replace("``", "").split())
