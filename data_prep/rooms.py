"""Measures room impulse responses and writes the file of decays that training on the device convolves with."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.corpora.musan import FIRST_CHANNEL, room_files
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.room_table import write_rooms
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio

DECAY_FRAMES = 100
"""Frames of decay in the file; training uses as many as its crops have context."""

ROOMS_AT_ONCE = 256


def make_rooms(
    directory: Path,
    output: Path,
    *,
    spec: FbankSpec,
    max_rooms: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> int:
    """Measures the decay of every room response in a folder and writes them to one file.

    Args:
      directory: as for ``room_files``; the first of several channels is read.
      output: the file, replaced if it exists.
      spec: filterbank of the training shards.
      max_rooms: draw this number if there are more; None: take all.
      seed: of the draw.
      progress: show a bar on standard error.

    Returns:
      Number of rooms written.

    Raises:
      UserError: there is no audio, a file cannot be read or is silent, or the output cannot be written.
    """
    from mqmha_jax.augment.room_decay import room_decays  # here: imports JAX, which other commands do not need
    from mqmha_jax.runs.run_files import check_output_file

    check_output_file(output)
    files = room_files(directory)
    if max_rooms is not None and len(files) > max_rooms:
        chosen = np.random.default_rng(seed).choice(len(files), max_rooms, replace=False)
        files = [files[index] for index in sorted(chosen)]
    decays = []
    with tqdm(total=len(files), unit="room", disable=not progress) as bar:
        for first in range(0, len(files), ROOMS_AT_ONCE):
            responses = []
            for path in files[first : first + ROOMS_AT_ONCE]:
                response = read_audio(path, spec.sample_rate_hz, FIRST_CHANNEL)
                if not response.any():
                    raise UserError(f"{path}: the room response is all zeros. Leave the file out.")
                responses.append(response)
                bar.update()
            decays.append(room_decays(responses, spec, num_frames=DECAY_FRAMES))
    names = [path.relative_to(directory).as_posix() for path in files]
    write_rooms(output, np.concatenate(decays), names, spec)
    return len(files)
