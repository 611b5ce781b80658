"""One command per corpus: its own arguments; ``corpus_command`` adds what all have in common.

``manifest`` has the same commands again, without what all have in common: they list a corpus and build nothing.
"""

import inspect
import shlex
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from data_prep.build_options import FOLDER, corpus_command
from data_prep.corpora import CORPORA, cnceleb, librispeech, tfds_corpus, voxceleb
from data_prep.corpora.jsonl_list import write_jsonl
from data_prep.manifest import Recording


@click.command()
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option("--split", type=click.Choice(voxceleb.SPLITS), default="all", help="Which speakers.")
@click.option("--metadata", type=FOLDER, show_default="vox1_meta.csv in DIRECTORY", help="The owners' speakers table.")
@corpus_command
def voxceleb1(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of VoxCeleb1 in DIRECTORY, with the ids of the official trial lists."""
    return CORPORA["voxceleb1"](**options)


@click.command()
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option("--split", type=click.Choice(voxceleb.SPLITS), default="all", help="Which speakers.")
@click.option("--metadata", type=FOLDER, show_default="vox2_meta.csv in DIRECTORY", help="The owners' speakers table.")
@corpus_command
def voxceleb2(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of VoxCeleb2 in DIRECTORY, as m4a or converted to wav."""
    return CORPORA["voxceleb2"](**options)


@click.command("cnceleb")
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option("--split", type=click.Choice(cnceleb.SPLITS), default="all", help="dev to train on, eval for the trials.")
@corpus_command
def cn_celeb(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of CN-Celeb 1 or 2 in DIRECTORY, with the ids of the lists in eval/lists."""
    return CORPORA["cnceleb"](**options)


@click.command("librispeech")
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option(
    "--subset", "subsets", multiple=True, show_default="all there are", help="Subset to take, such as dev-clean."
)
@click.option(
    "--download",
    "download_subsets",
    type=click.Choice(list(librispeech.ARCHIVES)),
    multiple=True,
    help="Subset to get from openslr.org first, unless it is there; dev-clean-2 is the smallest, 126 MB.",
)
@corpus_command
def libri_speech(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of LibriSpeech in DIRECTORY."""
    return CORPORA["librispeech"](**options)


@click.command("common-voice")
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option("--split", default="validated", help="Which of the lists *.tsv.")
@corpus_command
def common_voice(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of one language of Common Voice in DIRECTORY."""
    return CORPORA["common-voice"](**options)


@click.command()
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option(
    "--root", type=FOLDER, show_default="DIRECTORY", help="What relative paths start from and no path leads out of."
)
@click.option("--allow-pipes", is_flag=True, help="Let the shell run the commands in wav.scp; only if you trust them.")
@corpus_command
def kaldi(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of the utterances of a Kaldi data directory: wav.scp, utt2spk, segments, spk2gender."""
    return CORPORA["kaldi"](**options)


@click.command()
@click.argument("list_path", metavar="LIST", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option("--root", type=FOLDER, show_default="the folder of LIST", help="What the paths in LIST are relative to.")
@corpus_command
def csv(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of the recordings in LIST, a CSV file with columns path, speaker and any others."""
    return CORPORA["csv"](**options)


@click.command()
@click.argument("list_path", metavar="LIST", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option("--root", type=FOLDER, show_default="the folder of LIST", help="What the paths in LIST are relative to.")
@corpus_command
def jsonl(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of the recordings in LIST, one JSON object a line with utterance, speaker, path and any others."""
    return CORPORA["jsonl"](**options)


@click.command()
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@corpus_command
def folder(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of the audio files in DIRECTORY/<speaker>/**."""
    return CORPORA["folder"](**options)


@click.command()
@click.argument("data_set")
@click.argument("output", type=FOLDER)
@click.option(
    "--data-dir", type=FOLDER, show_default="~/tensorflow_datasets", help="Where DATA_SET is, if it is a name."
)
@click.option("--split", default="train", help="Split of the data set.")
@click.option("--audio", show_default="the only one", help="Feature with the audio.")
@click.option("--speaker", show_default=", ".join(tfds_corpus.SPEAKER_FEATURES), help="Feature with the speaker.")
@click.option("--utterance", show_default=", ".join(tfds_corpus.UTTERANCE_FEATURES), help="Feature with the id.")
@click.option("--attribute", "attributes", multiple=True, help="Further feature to keep, such as chapter_id.")
@click.option("--audio-rate-hz", type=click.IntRange(min=1), help="Sample rate, where the data set does not tell.")
@corpus_command
def tfds(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of DATA_SET, the folder or the name of a data set of TensorFlow Datasets in ArrayRecord files."""
    return CORPORA["tfds"](**options)


@click.command()
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@corpus_command
def noises(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of noise, music and speech in DIRECTORY, MUSAN or any folder; their speaker is the kind."""
    return CORPORA["noises"](**options)


@click.command()
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@corpus_command
def rooms(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of room impulse responses in DIRECTORY, RIRS_NOISES or any folder."""
    return CORPORA["rooms"](**options)


@click.command()
@click.argument("output", type=FOLDER)
@click.option("--num-speakers", default=100, help="How many speakers.")
@click.option("--sessions-per-speaker", default=4, help="Recording conditions of each speaker.")
@click.option("--utterances-per-session", default=5, help="Recordings in each condition.")
@click.option("--seconds", nargs=2, type=float, default=(2.0, 5.0), help="Shortest and longest duration.")
@click.option("--voice-seed", default=0, help="Another seed is another corpus.")
@click.option("--first-speaker", default=0, help="Index of the first; disjoint ranges are disjoint speakers.")
@corpus_command
def synthetic(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of machine-made voices, for trying things out; not the voices of people."""
    return CORPORA["synthetic"](**options)


_CORPUS_COMMANDS: tuple[click.Command, ...] = (
    voxceleb1,
    voxceleb2,
    cn_celeb,
    libri_speech,
    common_voice,
    kaldi,
    csv,
    jsonl,
    folder,
    tfds,
    synthetic,
    noises,
    rooms,
)


@click.group()
def manifest() -> None:
    """List the recordings of a corpus in a JSON-lines file, which the command jsonl reads."""


def _manifest_command(corpus: click.Command) -> click.Command:
    """A corpus' command with its own arguments alone, that writes what the corpus lists and reads no audio."""
    recordings = inspect.unwrap(typing.cast(Callable[..., Sequence[Recording]], corpus.callback))

    def write(output: Path, **options: Any) -> None:
        listed = recordings(**options)
        root = write_jsonl(listed, output)
        build = shlex.join(["python", "-m", "data_prep", "jsonl", str(output), "SHARDS", "--root", str(root)])
        click.echo(f"{output}: {len(listed):,} recordings. Build their shards with: {build}")

    own = [parameter for parameter in corpus.params if parameter.name not in _COMMON]
    return click.Command(corpus.name, callback=write, params=own, help=f"OUTPUT: the list of what {corpus.name} reads.")


_COMMON = {parameter.name for parameter in click.command()(corpus_command(lambda: ())).params}

for _command in _CORPUS_COMMANDS:
    manifest.add_command(_manifest_command(_command))

COMMANDS: tuple[click.Command, ...] = (*_CORPUS_COMMANDS, manifest)
