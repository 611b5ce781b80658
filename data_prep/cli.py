"""The command line: one command per corpus, and those that look after shards."""

import sys

import click

import mqmha_jax
from data_prep import shard_commands
from data_prep.corpus_commands import COMMANDS
from data_prep.rooms import room_table
from mqmha_jax.errors import UserError


def main() -> None:
    """Runs the command line; a mistake of the user ends it with a sentence and status 1."""
    try:
        prepare(standalone_mode=False)
    except UserError as error:
        sys.exit(f"Error: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("Stopped. Finished parts stay; the same command goes on from there.")


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(mqmha_jax.__version__)
def prepare() -> None:
    """Make fbank shards for training and evaluation from a corpus of audio."""


for _command in (*COMMANDS, shard_commands.verify, shard_commands.inspect, shard_commands.leaks, room_table):
    prepare.add_command(_command)
