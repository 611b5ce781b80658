"""Reads what a run left, to compare it with another."""

import warnings
from pathlib import Path

import jax
import numpy as np

from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.log_lines import read_log

UNREPEATABLE = ("time", "utterances_per_second", "data_wait", "device_wait", "host_memory_gb")


def read_arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Returns all arrays of the newest checkpoint, by path."""
    from orbax.checkpoint import v1 as ocp

    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.latest_step
    one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    directory = (workdir / "checkpoints" / str(step) / "arrays").resolve()
    metadata = ocp.checkpointables_metadata(directory).metadata
    wanted = {
        name: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one_device), metadata[name])
        for name in ("network", "head", "training")
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = ocp.load_checkpointables(directory, wanted)
    leaves = jax.tree_util.tree_leaves_with_path(loaded)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_close(one: Path, other: Path) -> None:
    """Requires checkpoints that are equal up to rounding, for gentle runs in which rounding does not grow.

    The tolerance is relative to the largest entry of an array, because small entries are sums of large ones.
    """
    ours, theirs = read_arrays(one), read_arrays(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        atol = 2e-5 * max(1.0, np.abs(theirs[name]).max(initial=0))
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=atol, err_msg=name)


def assert_same_run(one: Path, other: Path) -> None:
    """Requires checkpoints that are equal bit for bit, and equal logs except for times."""
    ours, theirs = read_arrays(one), read_arrays(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 20
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    measured = [
        [{k: v for k, v in line.items() if k not in UNREPEATABLE} for line in read_log(w)] for w in (one, other)
    ]
    assert measured[0] == measured[1]
