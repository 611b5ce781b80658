"""The commands for enrolled speakers: enrol, identify, store."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mqmha_jax.atomic import replacing, write_text
from mqmha_jax.command_line import (
    CONFIDENCE,
    PATH,
    PROBABILITY,
    SECONDS,
    FiniteRange,
    SectionedCommand,
    SectionedGroup,
    allow_code_option,
    channel_option,
    typed_options,
    warn_unused_probabilities,
)
from mqmha_jax.errors import UserError

if TYPE_CHECKING:
    from mqmha_jax.store.identification import Identification
    from mqmha_jax.store.speaker_store import SpeakerStore
    from mqmha_jax.store.timeline import Timeline


class _Windows(click.ParamType):
    """Two lengths in seconds, ``1.5,0.75``."""

    name = "seconds,seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """The two numbers."""
        if isinstance(value, tuple):
            return value
        try:
            window_s, hop_s = map(float, value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not two numbers of seconds, such as 1.5,0.75.", param, ctx)
        from mqmha_jax.store.window_lengths import check_window_lengths

        with _naming_option(param, ctx):
            check_window_lengths(window_s, hop_s)
        return window_s, hop_s


class _Picture(click.Path):
    """Path of a picture, whose ending gives its format."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        from mqmha_jax.store.draw_timeline import check_picture_name

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        with _naming_option(param, ctx):
            check_picture_name(path)
        return path


@contextmanager
def _naming_option(param: click.Parameter | None, ctx: click.Context | None) -> Iterator[None]:
    """Turns a refused value into a mistake of the command line, which names the option."""
    try:
        yield
    except UserError as error:
        raise click.BadParameter(str(error), ctx=ctx, param=param) from error


WINDOWS = _Windows()
_STORE = "Directory of the store."
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_RUN = click.option(
    "--run", type=PATH, show_default="the run that the store names", help="Run whose network made the store."
)
_MIN_SPEECH = click.option("--min-speech", type=SECONDS, default=0.5, help="Minimum seconds of speech in a recording.")
_OF_WHOLE_RECORDINGS = {"top_n": "--top-n", "confidence": "--confidence", "min_speech": "--min-speech"}
_PRIOR = click.option(
    "--prior",
    type=PROBABILITY,
    default=0.5,
    help="Prior probability that the speaker is enrolled.",
)
_CONFIDENCE = click.option(
    "--confidence",
    type=CONFIDENCE,
    default=0.9,
    help="Answer 'unsure' if the answer is less probable than this.",
)
_THRESHOLD = click.option(
    "--threshold",
    type=FiniteRange(-1, 1),
    show_default="calibration or threshold of the run",
    help="Lowest score that counts as a match.",
)


@click.command(
    cls=SectionedCommand,
    arguments={
        "STORE": f"{_STORE} It is created if it does not exist.",
        "NAME": "Name of the speaker.",
        "AUDIO": "Audio files with only this speaker, or folders of them.",
    },
)
@click.argument("store", type=PATH)
@click.argument("name")
@click.argument("audio", type=PATH, nargs=-1, required=True)
@click.option("--run", type=PATH, help="Work directory of the run with the network; needed for a new store.")
@_MIN_SPEECH
@channel_option
@_JSON
@allow_code_option
def enrol(
    store: Path,
    name: str,
    audio: tuple[Path, ...],
    run: Path | None,
    min_speech: float,
    channel: int | None,
    as_json: bool,
) -> None:
    """Enrol a speaker in a store, or add recordings to one.

    Names and leaves out recordings that cannot be used or have too little speech, and then exits with status 1. The
    same recording of a speaker counts once, even under another name.
    """
    from mqmha_jax.embed_files import list_audio

    left_out: list[UserError] = []

    def leave_out(error: UserError) -> None:
        left_out.append(error)
        click.echo(f"Left out: {error}", err=True)

    files = list_audio(audio, say=_warn, on_error=leave_out, below_folder=False)
    opened = _open_or_begin(store, run)
    speaker = opened.enrol(name, files, channel=channel, min_speech_s=min_speech, on_error=leave_out, on_warning=_warn)
    if as_json:
        click.echo(json.dumps(speaker.to_dict()))
    else:
        click.echo(f"{speaker.sentence()} in {store}")
    if left_out:
        sys.exit(1)


@click.command(cls=SectionedCommand, arguments={"STORE": _STORE, "AUDIO": "Audio files, or folders of them."})
@click.argument("store", type=PATH)
@click.argument("audio", type=PATH, nargs=-1, required=True)
@click.option("--top-n", type=click.IntRange(1), default=5, help="Number of speakers to list for each recording.")
@click.option(
    "--windows",
    type=WINDOWS,
    help="Find who speaks when: seconds of a window, and from the start of one window to the next, such as 1.5,0.75.",
)
@click.option("--rttm", type=PATH, help="With --windows: RTTM file for the segments of enrolled speakers.")
@click.option(
    "--plot", type=_Picture(path_type=Path), help="With --windows and one recording: picture of who speaks when."
)
@_PRIOR
@_CONFIDENCE
@_THRESHOLD
@_MIN_SPEECH
@channel_option
@_RUN
@_JSON
@allow_code_option
def identify(
    store: Path,
    audio: tuple[Path, ...],
    top_n: int,
    prior: float,
    confidence: float,
    threshold: float | None,
    min_speech: float,
    channel: int | None,
    run: Path | None,
    as_json: bool,
    windows: tuple[float, float] | None,
    rttm: Path | None,
    plot: Path | None,
) -> None:
    """Find the enrolled speaker of a recording.

    The answer may be "nobody enrolled"; with --windows, the answer is who speaks when. Names recordings that cannot be
    used, and then exits with status 1. With --json, prints one line for each recording.
    """
    from mqmha_jax.embed_files import list_audio
    from mqmha_jax.errors import printable
    from mqmha_jax.runs.run_files import check_output_file
    from mqmha_jax.store.timeline import check_rttm_names

    failed = False

    def leave_out(error: UserError) -> None:
        nonlocal failed
        failed = True
        click.echo(f"Left out: {error}", err=True)

    files = list_audio(audio, say=_warn, on_error=leave_out)
    if windows is None and (rttm or plot):
        raise click.UsageError("--rttm and --plot go with --windows, such as --windows 1.5,0.75.")
    if windows and (given := typed_options(_OF_WHOLE_RECORDINGS)):
        these = "this option is" if len(given) == 1 else "these options are"
        raise click.UsageError(
            f"--windows answers for every window, without {' and '.join(given)}: {these} for whole recordings."
        )
    if plot and len(files) > 1:
        raise click.UsageError(f"--plot draws one recording, and {len(files)} are given.")
    if rttm and plot and rttm.resolve() == plot.resolve():
        raise click.UsageError(f"--rttm and --plot both write {plot}. Give two files.")
    for output in filter(None, (rttm, plot)):
        check_output_file(output, inputs=files.values())
    opened = _open(store, run)
    if rttm:
        check_rttm_names("recordings", files)
        check_rttm_names("speakers", [speaker.name for speaker in opened.list_speakers()])
    warn_unused_probabilities(calibrated=opened.encoder.calibration is not None, threshold=threshold)
    shared: dict[str, Any] = {"prior": prior, "threshold": threshold, "channel": channel}
    alone: dict[str, Any] = {"top_n": top_n, "confidence": confidence, "min_speech_s": min_speech}
    timelines: list[Timeline] = []
    for name, path in files.items():
        found: Identification | Timeline
        try:
            if windows is None:
                found = opened.identify(path, name=name, **alone, **shared)
            else:
                found = opened.track(path, name=name, window_s=windows[0], hop_s=windows[1], **shared)
                timelines.append(found)
        except UserError as error:
            leave_out(error)
            continue
        click.echo(json.dumps(found.to_dict()) if as_json else printable(found.text()))
    if rttm:
        write_text(rttm, "".join(timeline.rttm() for timeline in timelines))
    if plot and timelines:
        from mqmha_jax.store.draw_timeline import draw_timeline

        with replacing(plot) as temporary:
            draw_timeline(timelines[0], temporary)
    if failed:
        sys.exit(1)


@click.group(cls=SectionedGroup)
def store() -> None:
    """List, remove, merge and verify enrolled speakers."""


@store.command("list", arguments={"STORE": _STORE})
@click.argument("store", type=PATH)
@_JSON
def list_(store: Path, as_json: bool) -> None:
    """List who is enrolled: recordings, seconds of speech, date."""
    from mqmha_jax.errors import printable
    from mqmha_jax.store.changes import count_speakers, list_speakers
    from mqmha_jax.store.files import read_state

    stored = read_state(store)
    speakers = list_speakers(stored.roster)
    if as_json:
        click.echo(json.dumps([speaker.to_dict() for speaker in speakers]))
        return
    for speaker in speakers:
        click.echo(printable(speaker.sentence()))
    click.echo(f"{count_speakers(stored.roster)}; network {stored.network.name}")


@store.command(
    arguments={
        "STORE": _STORE,
        "NAME": "Name of the speaker.",
        "RECORDING": "Recordings, by their path as given to enrol or as 'store list --json' prints it; none: all.",
    }
)
@click.argument("store", type=PATH)
@click.argument("name")
@click.argument("recording", nargs=-1)
def remove(store: Path, name: str, recording: tuple[str, ...]) -> None:
    """Remove a speaker, or some recordings of one."""
    from mqmha_jax.store.changes import count_speakers, remove_speaker

    left = remove_speaker(store, name, recording)
    click.echo(f"Removed. {count_speakers(left)} left in {store}")


@store.command(arguments={"STORE": f"{_STORE} It gets the others' speakers.", "OTHER": "Other stores."})
@click.argument("store", type=PATH)
@click.argument("other", type=PATH, nargs=-1, required=True)
def merge(store: Path, other: tuple[Path, ...]) -> None:
    """Copy the speakers of other stores of the same network into a store.

    Speakers of the same name become one. The other stores stay as they are.
    """
    from mqmha_jax.store.changes import count_speakers, merge_stores

    for one in other:
        merged = merge_stores(store, one)
    click.echo(f"{count_speakers(merged)} in {store}")


@store.command(arguments={"STORE": _STORE, "NAME": "Name of the speaker.", "AUDIO": "Audio file."})
@click.argument("store", type=PATH)
@click.argument("name")
@click.argument("audio", type=PATH)
@click.option("--prior", type=PROBABILITY, default=0.5, help="Prior probability that it is this speaker.")
@_CONFIDENCE
@_THRESHOLD
@_MIN_SPEECH
@channel_option
@_RUN
@allow_code_option
def verify(store: Path, name: str, audio: Path, run: Path | None, min_speech: float, **options: Any) -> None:
    """Decide whether a recording is of one enrolled speaker."""
    opened = _open(store, run)
    warn_unused_probabilities(calibrated=opened.encoder.calibration is not None, threshold=options["threshold"])
    found = opened.verify(name, audio, min_speech_s=min_speech, **options)
    click.echo(found.sentence(opened.encoder.workdir))


def _open(store: Path, run: Path | None) -> "SpeakerStore":
    _prepare()
    from mqmha_jax.inference import SpeakerEncoder
    from mqmha_jax.store.speaker_store import SpeakerStore

    return SpeakerStore.open(store, None if run is None else SpeakerEncoder.load(run))


def _open_or_begin(store: Path, run: Path | None) -> "SpeakerStore":
    from mqmha_jax.store.files import is_store

    if is_store(store):
        return _open(store, run)
    if run is None:
        raise click.UsageError(f"{store} does not exist yet. Give the run whose network embeds: --run RUN.")
    _prepare()
    from mqmha_jax.inference import SpeakerEncoder
    from mqmha_jax.store.speaker_store import SpeakerStore

    return SpeakerStore.open_or_begin(store, SpeakerEncoder.load(run))


def _prepare() -> None:
    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()


def _warn(text: str) -> None:
    from mqmha_jax.errors import printable

    click.echo(f"Warning: {printable(text)}", err=True)
