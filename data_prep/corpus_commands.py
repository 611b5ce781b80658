"""One command per corpus, made from its function in ``CORPORA``: signature, annotations and docstring.

``manifest`` has the same commands without the options that all corpora share: they list a corpus and build nothing.
"""

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from data_prep.build_command import build_corpus
from data_prep.build_options import common_sections
from data_prep.corpora import CORPORA
from data_prep.manifest import Recording
from data_prep.signature_options import argument_help, click_parameters, describe
from mqmha_jax.command_line import PATH, SectionedCommand, SectionedGroup
from mqmha_jax.errors import count_noun

ListRecordings = Callable[..., Sequence[Recording]]


def corpus_command(name: str, list_recordings: ListRecordings) -> click.Command:
    """The command that builds shards of a corpus.

    Args:
      name: of the corpus.
      list_recordings: takes the corpus' own arguments and returns its recordings.
    """

    def build(output: Path, **options: Any) -> None:
        build_corpus(list_recordings, output, **options)

    common = common_sections()
    return _command(name, list_recordings, build, "directory of the shards; appears when complete.", common)


def manifest_command(name: str, list_recordings: ListRecordings) -> click.Command:
    """The command that lists a corpus in a file and reads no audio; arguments as for ``corpus_command``."""

    def write(output: Path, **options: Any) -> None:
        from data_prep.corpora.jsonl_list import write_jsonl
        from mqmha_jax.runs.run_files import check_output_file

        check_output_file(output, inputs=[value for value in options.values() if isinstance(value, Path)])
        listed = list_recordings(**options)
        root = write_jsonl(listed, output)
        build = shlex.join(["mqmha", "prep", "jsonl", str(output), "SHARDS", "--root", str(root)])
        click.echo(f"{output}: {count_noun(len(listed), 'recording')}. Build their shards with: {build}")

    return _command(name, list_recordings, write, "the list, a file with one JSON object per line.", {})


def _command(
    name: str,
    list_recordings: ListRecordings,
    callback: Callable[..., None],
    output: str,
    common: Mapping[str, Sequence[click.Option]],
) -> click.Command:
    own = click_parameters(list_recordings)
    arguments = [parameter for parameter in own if isinstance(parameter, click.Argument)]
    options = [parameter for parameter in own if isinstance(parameter, click.Option)]
    sections: Mapping[str, Sequence[click.Option]] = {"Corpus": options, **common}
    return SectionedCommand(
        name,
        callback=callback,
        params=[*arguments, click.Argument(["output"], type=PATH), *itertools.chain(*sections.values())],
        help=describe(list_recordings).text,
        arguments={**argument_help(list_recordings), "OUTPUT": f"{output[0].upper()}{output[1:]}"},
        sections={title: [str(option.name) for option in members] for title, members in sections.items()},
    )


CORPUS_COMMANDS = tuple(corpus_command(name, function) for name, function in CORPORA.items())

manifest = SectionedGroup(
    "manifest",
    help="List a corpus once, for many jobs.\n\nThe list is a file for the command jsonl. No audio is read.",
    commands=[manifest_command(name, function) for name, function in CORPORA.items()],
)
