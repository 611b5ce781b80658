"""Which devices take part in a collective together: the three ways in which XLA writes it."""

import math
import re

import numpy as np
from jaxtyping import Int

_LISTED = re.compile(r"replica_groups=\{(?P<groups>(\{[\d,]*\},?)*)\}")
_IOTA = re.compile(r"replica_groups=\[(?P<shape>[\d,]+)\]<=(?P<ids>\[[\d,]+\](T\([\d,]+\))?)")
_MESH = re.compile(r"replica_groups=mesh\[(?P<axes>[^\]]*)\](, device_ids=\((?P<ids>.*?)\))? \{(?P<along>[^}]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{(?P<pairs>(\{\d+,\d+\},?)*)\}")
_IOTA_IDS = re.compile(r"\[(?P<dims>[\d,]+)\](T\((?P<order>[\d,]+)\))?")
_AXIS = re.compile(r"'(?P<name>[^']+)'(:\((?P<before>\d+)\)(?P<size>\d+))?")


def replica_groups(attributes: str, num_devices: int) -> Int[np.ndarray, "groups members"]:
    """The groups of a collective, as positions in the order of the mesh's devices.

    Args:
      attributes: of the instruction, with ``replica_groups={{0,1},{2,3}}``, ``[2,2]<=[4]``, the mesh form
        ``mesh['a'=2,'b'=2] {'b'}``, or ``source_target_pairs``, whose groups are the pairs.
      num_devices: of the program; all of them form one group where none is written.

    Raises:
      ValueError: none of these.
    """
    if match := _PAIRS.search(attributes):
        return np.array(_numbers(match["pairs"])).reshape(-1, 2)
    if match := _LISTED.search(attributes):
        groups = [_numbers(group) for group in re.findall(r"\{([\d,]+)\}", match["groups"])]
        return np.array(groups or [list(range(num_devices))])
    if match := _IOTA.search(attributes):
        return _iota(match["ids"]).reshape(_numbers(match["shape"]))
    if match := _MESH.search(attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match["axes"])}
        return _along_axes(sizes, _device_ids(match["ids"], math.prod(sizes.values())), match["along"])
    if "replica_groups=" in attributes:
        raise ValueError(f"unreadable groups of a collective: {attributes[:200]}")
    return np.arange(num_devices)[None, :]


def _along_axes(sizes: dict[str, int], ids: np.ndarray, along: str) -> np.ndarray:
    # An axis 'b':(2)3 is the middle part of b, cut into 2 x 3 x the rest.
    parts: list[int] = []
    grouped: list[int] = []
    chosen = {match["name"]: match for match in _AXIS.finditer(along)}
    for name, size in sizes.items():
        match = chosen.get(name)
        before = int(match["before"]) if match and match["before"] else 1
        middle = 1 if match is None else int(match["size"]) if match["size"] else size
        parts += [before, middle, size // (before * middle)]
        grouped.append(len(parts) - 2)
    array = np.moveaxis(ids.reshape(parts), grouped, range(-len(grouped), 0))
    return array.reshape(-1, math.prod(parts[axis] for axis in grouped))


def _device_ids(text: str | None, count: int) -> np.ndarray:
    if text is None:
        return np.arange(count)
    return _iota(text).ravel() if text.startswith("[") else np.array(_numbers(text))


def _iota(text: str) -> np.ndarray:
    match = _IOTA_IDS.match(text)
    assert match is not None
    dims = _numbers(match["dims"])
    ids = np.arange(math.prod(dims)).reshape(dims)
    return ids.transpose(_numbers(match["order"])) if match["order"] else ids


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
