"""Sources of samples that are not a whole file. All are plain values, so that they can be sent to workers."""

import contextlib
import dataclasses
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from jaxtyping import Float, Float32

from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import Part, read_audio, read_audio_bytes
from mqmha_jax.features.wav_header import UNKNOWN_LENGTH

# Of a command: what it may write to standard output, and how much of its standard error is kept.
_LARGEST_OUTPUT, _MESSAGE_BYTES = 1 << 30, 1 << 12
_BLOCK_BYTES = 1 << 16

Source: TypeAlias = Path | Callable[[int], Float[np.ndarray, " n"]]
"""The source of a ``Recording``: a file, or a function that makes its samples at a sample rate in Hz."""


@dataclasses.dataclass(frozen=True)
class FilePart:
    """A part of an audio file.

    Attributes:
      path: the file.
      part: which part.
    """

    path: Path
    part: Part

    def __str__(self) -> str:
        """The file and which part of it."""
        end = "the end" if self.part.end_s is None else f"{self.part.end_s:g} s"
        return f"{self.path} from {self.part.start_s:g} s to {end}"

    def __call__(self, sample_rate_hz: int) -> Float32[np.ndarray, " n"]:
        """The samples; as ``read_audio``."""
        return read_audio(self.path, sample_rate_hz, self.part)


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A part of a source that is not a file; the whole is made first.

    Attributes:
      source: makes the whole.
      part: which part; in time only.
    """

    source: Callable[[int], Float[np.ndarray, " n"]]
    part: Part

    def __call__(self, sample_rate_hz: int) -> Float[np.ndarray, " n"]:
        """The samples.

        Raises:
          UserError: the source has no such part, or as the source.
        """
        whole = self.source(sample_rate_hz)
        return whole[self.part.frames(str(self.source), sample_rate_hz, len(whole))]


@dataclasses.dataclass(frozen=True)
class ArchiveEntry:
    """A WAV file in a Kaldi archive.

    Attributes:
      path: the archive.
      offset: in bytes, where the WAV file starts.
    """

    path: Path
    offset: int

    def __str__(self) -> str:
        """As ``wav.scp`` has it."""
        return f"{self.path}:{self.offset}"

    def __call__(self, sample_rate_hz: int) -> Float32[np.ndarray, " n"]:
        """The samples.

        Raises:
          UserError: the archive cannot be read or has no WAV file there, or as ``read_audio``.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                header = file.read(12)
                if len(header) < 12 or header[:4] != b"RIFF" or header[8:] != b"WAVE":
                    raise UserError(f"{self}: no WAV file starts there. Make the archive again.")
                announced, there = struct.unpack("<I", header[4:8])[0] - 4, self.path.stat().st_size - file.tell()
                if announced <= 0 or announced >= UNKNOWN_LENGTH:
                    raise UserError(
                        f"{self}: its WAV header gives no length (a program wrote it into a pipe), so the start of the "
                        "next entry is unknown. Make the archive again from finished WAV files."
                    )
                content = header + file.read(min(announced, there))  # the header may claim billions of bytes
        except OSError as error:
            raise UserError(f"{self}: cannot be read ({error.strerror}).") from error
        return read_audio_bytes(content, str(self), sample_rate_hz)


@dataclasses.dataclass(frozen=True)
class ShellCommand:
    """A command in the user's own list; the shell runs it, and it writes a WAV file to standard output.

    Attributes:
      command: for ``/bin/sh``, without the bar at its end.
    """

    command: str

    def __str__(self) -> str:
        """The command itself."""
        return self.command

    def __call__(self, sample_rate_hz: int) -> Float32[np.ndarray, " n"]:
        """The samples.

        Raises:
          UserError: the command fails, writes more than a GiB, or as ``read_audio``.
        """
        content, message, status = self._run()
        if status:
            said = message.decode(errors="replace").strip().splitlines() or ["nothing on standard error"]
            raise UserError(f"{self.command}: failed with status {status} ({said[-1]}).")
        return read_audio_bytes(content, self.command, sample_rate_hz)

    def _run(self) -> tuple[bytes, bytes, int]:
        """What the command wrote, the end of its standard error, and its status; it does not outlive this call."""
        message = bytearray()

        def read_message(stream: IO[bytes]) -> None:
            while block := stream.read(_BLOCK_BYTES):
                message.extend(block)
                del message[:-_MESSAGE_BYTES]

        # A session of its own, so that the shell's children can be ended with it.
        with subprocess.Popen(
            self.command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as run:
            assert run.stdout
            assert run.stderr
            reader = threading.Thread(target=read_message, args=(run.stderr,), daemon=True)
            reader.start()
            try:
                content = bytearray()
                while block := run.stdout.read(_BLOCK_BYTES):
                    content.extend(block)
                    if len(content) > _LARGEST_OUTPUT:
                        raise UserError(
                            f"{self.command}: writes more than {_LARGEST_OUTPUT:,} bytes (a GiB is nine hours of "
                            "16-bit samples at 16 kHz). Check that it ends, or let it write parts."
                        )
                run.wait()
                reader.join()
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(run.pid, signal.SIGKILL)
                raise
        return bytes(content), bytes(message), run.returncode
