"""Which devices take part in a collective together, in the three forms in which XLA writes it."""

import math
import re

import numpy as np
from jaxtyping import Int

from mqmha_jax.plan.hlo.text import HloNotUnderstoodError

_LISTED = re.compile(r"replica_groups=\{(?P<groups>(\{[\d,]*\},?)*)\}")
_IOTA = re.compile(r"replica_groups=\[(?P<shape>[\d,]+)\]<=(?P<ids>\[[\d,]+\](T\([\d,]+\))?)")
_MESH = re.compile(r"replica_groups=mesh\[(?P<axes>[^\]]*)\](, device_ids=\((?P<ids>.*?)\))? \{(?P<along>[^}]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{(?P<pairs>(\{\d+,\d+\},?)*)\}")
_IOTA_IDS = re.compile(r"\[(?P<dims>[\d,]+)\](T\((?P<order>[\d,]+)\))?")
_AXIS = re.compile(r"'(?P<name>[^']+)'(:\((?P<before>\d+)\)(?P<size>\d+))?")


def read_groups(attributes: str, num_devices: int) -> Int[np.ndarray, "groups members"]:
    """Reads the groups of a collective, as positions in the order of the mesh's devices.

    Args:
      attributes: attributes of the instruction, with ``replica_groups={{0,1},{2,3}}``, ``[2,2]<=[4]``, the mesh form
        ``mesh['a'=2,'b'=2] {'b'}``, or ``source_target_pairs``, where each pair is a group.
      num_devices: number of devices of the program; without groups all of them form one.

    Raises:
      HloNotUnderstoodError: the groups have another form.
    """
    if match := _PAIRS.search(attributes):
        return np.array(_numbers(match["pairs"])).reshape(-1, 2)
    if match := _LISTED.search(attributes):
        groups = [_numbers(group) for group in re.findall(r"\{([\d,]+)\}", match["groups"])]
        return np.array(groups or [list(range(num_devices))])
    if match := _IOTA.search(attributes):
        return _count_up(match["ids"]).reshape(_numbers(match["shape"]))
    if match := _MESH.search(attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match["axes"])}
        return _group_along(match["along"], sizes, _read_ids(match["ids"], math.prod(sizes.values())))
    if "replica_groups=" in attributes:
        raise HloNotUnderstoodError(f"unreadable groups of a collective: {attributes[:120]!r}")
    return np.arange(num_devices)[None, :]


def _group_along(axes: str, sizes: dict[str, int], ids: np.ndarray) -> np.ndarray:
    # An axis may be divided: 'b':(2)3 is the middle part of b as 2 x 3 x the rest.
    parts: list[int] = []
    grouped: list[int] = []
    chosen = {match["name"]: match for match in _AXIS.finditer(axes)}
    for name, size in sizes.items():
        match = chosen.get(name)
        before = int(match["before"]) if match and match["before"] else 1
        middle = 1 if match is None else int(match["size"]) if match["size"] else size
        parts += [before, middle, size // (before * middle)]
        grouped.append(len(parts) - 2)
    array = np.moveaxis(ids.reshape(parts), grouped, range(-len(grouped), 0))
    return array.reshape(-1, math.prod(parts[axis] for axis in grouped))


def _read_ids(text: str | None, count: int) -> np.ndarray:
    if text is None:
        return np.arange(count)
    return _count_up(text).ravel() if text.startswith("[") else np.array(_numbers(text))


def _count_up(text: str) -> np.ndarray:
    """The numbers 0, 1, 2 ... in the shape and order of ``[4,2]T(1,0)``."""
    match = _IOTA_IDS.match(text)
    if match is None:
        raise HloNotUnderstoodError(f"unreadable devices of a collective: {text!r}")
    dims = _numbers(match["dims"])
    ids = np.arange(math.prod(dims)).reshape(dims)
    return ids.transpose(_numbers(match["order"])) if match["order"] else ids


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
