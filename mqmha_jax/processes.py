"""Runs several processes as one program: they join, agree on settings and raise errors together."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from mqmha_jax.errors import UserError
from mqmha_jax.parallel import batch_sharding, place_part, replicated_sharding

# Without a cluster manager, these variables say which process is which.
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")

# Seconds without a heartbeat after which a process counts as lost and the others end (JAX's default: 100 s). Threads of
# C++ send heartbeats, so long compilations and evaluations do not delay them.
_HEARTBEAT_SECONDS = 30
# Seconds that a failed process waits for the others to end too (JAX's default: 300 s).
_SHUTDOWN_SECONDS = 60

_LONGEST_MESSAGE = 4096
"""Bytes of an error message that all processes get."""


def join_processes() -> None:
    """Joins the processes of this job; must be called before any device is used.

    Under Slurm, Open MPI, on Cloud TPU and on GKE, JAX finds the other processes. Elsewhere three variables name them:
    JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    When a process is lost later, JAX ends all others with an error: at once if it was the first process, after 30 s
    without a heartbeat if it was another. So the launcher sees the job fail and can start it again.

    Raises:
      UserError: some of the variables are missing or wrong, or the other processes cannot be reached.
    """
    given = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    if given and len(given) < len(_VARIABLES):
        missing = ", ".join(name for name in _VARIABLES if name not in given)
        raise UserError(f"{', '.join(given)} is set, but not {missing}; --multi-process needs all three or none.")
    for name in _VARIABLES[1:]:
        if given and not given[name].isdecimal():
            raise UserError(f"{name} is {given[name]!r}; it must be a whole number.")
    initialize = partial(
        jax.distributed.initialize,
        heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
    try:
        if given:
            address, number, index = given.values()
            initialize(address, int(number), int(index))
        else:
            initialize()
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"The processes of this job cannot be joined: {error} Outside of Slurm, Open MPI, Cloud TPU and GKE set "
            f"{', '.join(_VARIABLES)} for each process; a single process needs no --multi-process."
        ) from error


def is_first_process() -> bool:
    """Whether this is the process that writes the files of the job."""
    return jax.process_index() == 0


def require_agreement(mine: Any, what: str) -> None:
    """Refuses processes that were started with different settings.

    Args:
      mine: this process's settings, as JSON values.
      what: their name in the message.

    Raises:
      UserError: in every process, if two processes differ.
    """
    if jax.process_count() == 1:
        return
    # A hash, because a collective needs equal sizes in all processes and the settings may differ in length.
    digest = hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).digest()
    digests = _gather_processes(np.frombuffer(digest, np.uint8))
    if different := [i for i in range(len(digests)) if not np.array_equal(digests[i], digests[0])]:
        raise UserError(f"Process {different[0]} has another {what} than process 0; give all of them the same.")


@contextlib.contextmanager
def raise_together() -> Iterator[None]:
    """If one process raises UserError inside, all raise it, so none waits for another.

    Every process of the job must enter.

    Raises:
      UserError: in every process, if one of them raised it.
    """
    refusal = ""
    try:
        yield
    except UserError as error:
        if jax.process_count() == 1:
            raise
        refusal = str(error)
    if jax.process_count() == 1:
        return
    text = np.frombuffer(refusal.encode()[:_LONGEST_MESSAGE].ljust(_LONGEST_MESSAGE), np.uint8)
    for said in _gather_processes(text):
        if message := said.tobytes().decode(errors="ignore").rstrip():
            raise UserError(message)


def _gather_processes(mine: np.ndarray) -> np.ndarray:
    """Gathers ``[n]`` of each process as ``[processes, n]``.

    ``multihost_utils.process_allgather`` waits for the first device only. A process that ends right after it, because
    of what it got, breaks connections that its other devices are still making, and the program of the peer hangs.
    """
    mesh = Mesh(jax.devices(), "device")
    one_each, everyone = NamedSharding(mesh, jax.P("device")), NamedSharding(mesh, jax.P())
    rows = np.tile(mine, (jax.local_device_count(), 1))
    everywhere = place_part(rows, one_each)
    gathered = jax.block_until_ready(jax.jit(_same, out_shardings=everyone)(everywhere))
    owners = [device.process_index for device in jax.devices()]
    first_rows = [owners.index(process) for process in range(jax.process_count())]
    return np.asarray(gathered.addressable_data(0))[first_rows]


def any_process(flag: bool, mesh: Mesh) -> jax.Array | np.bool_:
    """Whether any process set its flag: a small collective; every process starts it, and none needs to wait for it."""
    if jax.process_count() == 1:
        return np.bool_(flag)
    flags = np.full(jax.local_device_count(), flag)
    everywhere = place_part(flags, batch_sharding(mesh))
    return jax.jit(_any, out_shardings=replicated_sharding(mesh))(everywhere)


def _same(rows: jax.Array) -> jax.Array:
    return rows


def _any(flags: jax.Array) -> jax.Array:
    return flags.any()
