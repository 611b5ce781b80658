"""The file of rooms that ``mqmha prep room-table`` writes: the decay of the power in each mel band."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydantic
from jaxtyping import Float, Float16

from mqmha_jax.atomic import replacing
from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import parse_json
from mqmha_jax.npz_file import open_npz

FORMAT_VERSION = 1


class RoomTable(NamedTuple):
    """The rooms of a file.

    Attributes:
      decay: natural logarithms of power ``[R, L, F]``, as ``room_decays`` computes them.
      names: source of each room.
      spec: filterbank of the bands.
    """

    decay: Float16[np.ndarray, "R L F"]
    names: tuple[str, ...]
    spec: FbankSpec


def write_rooms(path: Path, decay: Float[np.ndarray, "R L F"], names: list[str], spec: FbankSpec) -> None:
    """Writes a file of rooms, in place of an older one.

    Raises:
      UserError: the file cannot be written.
    """
    about = {
        "format_version": FORMAT_VERSION,
        "names": names,
        "fbank": pydantic.TypeAdapter(FbankSpec).dump_python(spec),
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            decay=np.maximum(decay, np.finfo(np.float16).min).astype(np.float16),
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        )


def read_rooms(path: str | Path) -> RoomTable:
    """Reads a file of rooms.

    Raises:
      UserError: the file is missing, damaged or not a file of rooms, or a newer version of the program wrote it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"No file of rooms {path}. Make it with: mqmha prep room-table FOLDER {path}.")
    advice = f"Make it again: mqmha prep room-table FOLDER {path}."
    with open_npz(path, advice=advice) as archive:
        decay, text = archive["decay"], archive["about"].tobytes()
    about = parse_json(text, dict, where=str(path), advice=advice)
    try:
        if about["format_version"] > FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {about['format_version']}; this program reads versions up to "
                f"{FORMAT_VERSION}. Update mqmha_jax, or make the file again with this version."
            )
        spec = pydantic.TypeAdapter(FbankSpec).validate_python(about["fbank"])
        names = tuple(about["names"])
        if decay.dtype != np.float16 or decay.ndim != 3 or decay.shape[::2] != (len(names), spec.num_features):
            raise ValueError(f"decay is {decay.dtype} {decay.shape} for {len(names)} rooms, {spec.num_features} bands")
        if not len(names) or not decay.shape[1] or not np.isfinite(decay).all():
            raise ValueError("it holds no rooms, or values that are not finite")
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:  # pydantic's is a ValueError
        raise UserError(f"{path} is damaged, or not a file of rooms ({error}). {advice}") from error
    return RoomTable(decay, names, spec)
