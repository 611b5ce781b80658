"""The command line: one command per corpus, and commands that look after shards."""

import contextlib
import itertools
import signal
import sys
from collections.abc import Iterator
from types import FrameType

import click

import mqmha_jax
from data_prep import shard_commands
from data_prep.corpus_commands import CORPUS_COMMANDS, manifest
from data_prep.room_command import room_table
from mqmha_jax.command_line import SETTINGS, SectionedGroup
from mqmha_jax.errors import UserError
from mqmha_jax.interrupts import handle_signals, is_ignored
from mqmha_jax.tpu_library import hide_unneeded_tpu_library

STOPPED = "Stopped. Finished parts stay; run the same command again to resume."


def main() -> None:
    """Runs the command line; a mistake of the user ends it with a sentence and status 1."""
    try:
        sys.exit(prepare(standalone_mode=False))
    except UserError as error:
        sys.exit(f"Error: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


class _Preparation(SectionedGroup):
    """A group of commands that stop cleanly on Ctrl-C and on the SIGTERM of a scheduler."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            with _raising_on_signals():
                return super().invoke(ctx)
        except (click.Abort, KeyboardInterrupt) as error:
            click.echo(STOPPED, err=True)
            number = error.number if isinstance(error, _Stop) else signal.SIGINT
            raise click.exceptions.Exit(128 + number) from None


class _Stop(KeyboardInterrupt):
    """A signal that asks for the end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@click.group(
    cls=_Preparation,
    context_settings=SETTINGS,
    sections={
        "Corpora: mqmha prep CORPUS WHERE_IT_IS SHARDS": [str(command.name) for command in CORPUS_COMMANDS],
        "Shards": ("inspect", "verify", "leaks"),
        "Further": ("manifest", "room-table"),
    },
)
@click.version_option(mqmha_jax.__version__)
def prepare() -> None:
    """Turn audio into shards; inspect and verify shards.

    Shards are files of fbank features, which training and evaluation read.
    """
    hide_unneeded_tpu_library()


for _command in (
    *CORPUS_COMMANDS,
    shard_commands.inspect,
    shard_commands.verify,
    shard_commands.leaks,
    manifest,
    room_table,
):
    prepare.add_command(_command)


@contextlib.contextmanager
def _raising_on_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise, so that worker processes are ended."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stop(number)

    with handle_signals(itertools.filterfalse(is_ignored, (signal.SIGINT, signal.SIGTERM)), stop):
        yield
