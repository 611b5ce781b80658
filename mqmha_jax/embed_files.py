"""Embeds many audio files, or folders of them, into one file; an interrupted call leaves its parts to the next one."""

import glob
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from mqmha_jax.atomic import replacing, try_lock
from mqmha_jax.data.embedding_files import write_embeddings
from mqmha_jax.data.ids import check_id, check_spellings, plain_id
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.features.audio_folder import audio_files
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.npz_file import open_npz
from mqmha_jax.say import Say
from mqmha_jax.types import Embeddings


class Outcome(NamedTuple):
    """The result of ``embed_files``.

    Attributes:
      num_embedded: in the output.
      num_resumed: of these, embedded by an earlier, interrupted call.
      dimension: of the embeddings.
    """

    num_embedded: int
    num_resumed: int
    dimension: int


def list_audio(
    arguments: Sequence[Path],
    *,
    say: Say,
    on_error: Callable[[UserError], object] | None = None,
    below_folder: bool = True,
) -> dict[str, Path]:
    """Names audio files, and those below folders.

    Args:
      arguments: files and folders.
      say: called with a sentence for each file that is given twice, and counts once.
      on_error: called for each file whose name cannot be an id, which is left out. None: raise instead.
      below_folder: below a folder that is the only argument, an id is the path from there, which is what trial lists
        name.

    Returns:
      Files by id: the path as it is given, without ``./``, or the path below a folder.

    Raises:
      UserError: a folder holds no audio, or a name cannot be an id (and ``on_error`` is None, or no file is left).
    """
    files: dict[str, Path] = {}
    for argument in arguments:
        found = audio_files(argument, refuse_names=on_error is None) if argument.is_dir() else [argument]
        base = argument if below_folder and argument.is_dir() and len(arguments) == 1 else Path()
        for path in found:
            name = path.relative_to(base) if base != Path() else path
            try:
                utterance = check_id(plain_id(name.as_posix()), "The file name")
            except UserError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            if utterance in files:
                say(f"{utterance} is given twice and embedded once.")
            files[utterance] = path
    if not files:
        raise UserError("Nothing to embed: no file has a name that can be an id. Rename them.")
    check_spellings(files, "files")
    return files


def embed_files(
    encoder: SpeakerEncoder,
    files: Mapping[str, Path],
    output: Path,
    *,
    channel: int | None = None,
    on_error: Callable[[UserError], object],
    on_warning: Callable[[str], object],
    progress: bool = False,
) -> Outcome:
    """Embeds files and writes their embeddings.

    About 44 minutes of audio are a part, which is kept beside the output until that is written. A later call with the
    same network reuses the parts, except for files that have changed since or lie elsewhere. The embeddings wait on the
    disk, so memory holds one part of them and the names of the files.

    Args:
      encoder: the network.
      files: by id.
      output: npz that ``read_embeddings`` reads.
      channel: as in ``SpeakerEncoder.embed``.
      on_error: called for each file that cannot be used, which is left out.
      on_warning: as in ``SpeakerEncoder.embed``.
      progress: show a progress bar.

    Raises:
      UserError: no file can be used, the output cannot be written, another call writes it at this moment, or another
        network, other features or another channel left parts of this output behind.
    """
    states = {name: _state(path) for name, path in files.items()}
    parts = output.with_name(f".{output.name}.{_fingerprint(encoder, channel)}.parts")
    _refuse_other_parts(output, parts)
    with _claim_parts(output, parts):
        done = _take_over(parts, states)
        num_resumed = len(done)
        names = {str(path): name for name, path in files.items() if name not in done}
        with tqdm(total=len(files), initial=num_resumed, unit="file", disable=not progress, leave=False) as bar:

            def count(path: Path) -> Path:
                bar.update()
                return path

            waiting = (count(files[name]) for name in names.values())
            for group in encoder.embed_groups(waiting, channel=channel, on_error=on_error, on_warning=on_warning):
                part = Embeddings(tuple(names[path] for path in group.ids), group.vectors)
                _keep(parts, part, states)
                done.update(part.ids)
        if not done:
            raise UserError(f"Nothing to embed: {count_noun(len(files), 'file')} given, none can be used.")
        dimension = _write_together(output, parts, [name for name in files if name in done], states)
        shutil.rmtree(parts, ignore_errors=True)
        return Outcome(len(done), num_resumed, dimension)


def _refuse_other_parts(output: Path, parts: Path) -> None:
    """Refuses to start while a call with another network is unfinished."""
    found = output.parent.glob(f".{glob.escape(output.name)}.*.parts")
    others = [path for path in found if path != parts and any(path.glob("*"))]
    if others:
        raise UserError(
            f"{others[0]} holds embeddings for {output} by another network, other features or another channel, from a "
            "call that runs or was interrupted. Give another --output, finish that call, or delete the folder."
        )


@contextmanager
def _claim_parts(output: Path, parts: Path) -> Iterator[None]:
    """Makes the folder of the parts and keeps other calls out of it; afterwards removes it if it holds nothing."""
    descriptor = _open_locked(output, parts)
    try:
        yield
    finally:
        with suppress(OSError):  # it holds parts for the next call
            parts.rmdir()
        os.close(descriptor)


def _open_locked(output: Path, parts: Path) -> int:
    while True:
        try:
            # Private, because fewer people may read the output than can read a new folder.
            parts.mkdir(0o700, parents=True, exist_ok=True)
            descriptor = os.open(parts, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{output} cannot be written ({error.strerror}). Choose another output.") from error
        if not try_lock(descriptor):
            os.close(descriptor)
            raise UserError(
                f"{output} is being written by another call, which keeps its parts in {parts}. Wait until it has "
                "ended, or give another --output."
            )
        # Between these lines a call that ended may have removed the folder; then make a new one.
        if parts.exists() and os.path.samestat(os.fstat(descriptor), parts.stat()):
            return descriptor
        os.close(descriptor)


def _fingerprint(encoder: SpeakerEncoder, channel: int | None) -> str:
    """The same only for the same network, features and channel."""
    return hashlib.sha256(repr((encoder.config.fbank, channel, encoder.sha256)).encode()).hexdigest()[:16]


def _state(path: Path) -> str:
    """What changes when a file does; empty if there is none.

    With the path, because the same id may be a file of another folder.
    """
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {path.resolve()}"


def _keep(parts: Path, part: Embeddings, states: Mapping[str, str]) -> None:
    # After the highest: their count would be the number of another part once a damaged one is gone.
    number = max((int(path.stem) for path in parts.glob("*.npz") if path.stem.isdecimal()), default=-1) + 1
    with replacing(parts / f"{number:06d}.npz") as temporary:
        np.savez(
            temporary,
            ids=np.asarray(part.ids, np.str_),
            vectors=part.vectors,
            states=np.asarray([states[name] for name in part.ids], np.str_),
        )


def _take_over(parts: Path, states: Mapping[str, str]) -> set[str]:
    """Names of the files that an earlier call embedded and that have not changed since; removes damaged parts."""
    done: set[str] = set()
    for path in sorted(parts.glob("*.npz")):
        try:
            done.update(name for name, _ in _read_part(path, states))
        except (UserError, ValueError):
            path.unlink()
    return done


def _write_together(output: Path, parts: Path, names: Sequence[str], states: Mapping[str, str]) -> int:
    """Writes the vectors of all parts to the output, by way of a file as large as they are; returns their dimension."""
    row = {name: i for i, name in enumerate(names)}
    missing = set(names)  # a row that nothing fills would be zeros
    together: np.ndarray | None = None
    for path in sorted(parts.glob("*.npz")):
        for name, vector in _read_part(path, states):
            if together is None:
                together = np.memmap(parts / "together", vector.dtype, "w+", shape=(len(names), len(vector)))
            together[row[name]] = vector
            missing.discard(name)
    if missing or together is None:
        raise UserError(
            f"{output} is not written: {count_noun(len(missing), 'embedding')}, such as that of {min(missing)!r}, "
            f"disappeared from {parts} during this call. Run the command again, once at a time."
        )
    write_embeddings(output, Embeddings(tuple(names), together))
    return together.shape[1]


def _read_part(path: Path, states: Mapping[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields names and vectors of the files that have not changed since."""
    with open_npz(path, advice="Run the command again.") as archive:
        kept = zip(archive["ids"].tolist(), archive["vectors"], archive["states"].tolist(), strict=True)
        yield from [(name, vector) for name, vector, state in kept if states.get(name) == state]
