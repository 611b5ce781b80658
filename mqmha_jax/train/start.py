"""Initial parameters of a run: fine-tuning starts from the network and the prototypes of an earlier run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mqmha_jax import parallel
from mqmha_jax.config import StartConfig
from mqmha_jax.errors import UserError
from mqmha_jax.parallel import PROTOTYPES
from mqmha_jax.processes import is_first_process
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.state import TrainState
from mqmha_jax.runs.workdir import CONFIG_NAME, read_config, read_speakers


def initialize_from_run(state: TrainState, config: StartConfig, speakers: tuple[str, ...]) -> TrainState:
    """Replaces the parameters of the initial state by those of another run; optimizer, counters and step begin anew.

    Prototypes are matched by the speakers' names. So copies at other speeds drop out if the new run trains without
    them, and a subset of the speakers or additional ones need no special case.

    Args:
      state: the state before the first step, on the mesh.
      config: the other run; an empty one leaves the state as it is.
      speakers: names of the new run's classes.

    Raises:
      UserError: the run does not exist, its network has another architecture, or its prototypes have another shape.
    """
    if not config.run:
        return state
    workdir = Path(config.run)
    read_config(workdir)  # refuses a directory that is no run
    with Checkpoints(workdir) as checkpoints:
        network, step = checkpoints.restore_network(state.network(), config.step)
        head = checkpoints.restore_head(step)[0] if config.head == "match" else {}
    params = {"net": parallel.put_like(network["params"], state.params["net"]), "head": dict(state.params["head"])}
    if config.head == "match":
        if PROTOTYPES not in head or PROTOTYPES not in params["head"]:
            raise UserError(f"start.head=match needs prototypes in both runs, but {workdir} or this loss has none.")
        params["head"][PROTOTYPES] = _match_prototypes(
            params["head"][PROTOTYPES], np.asarray(head[PROTOTYPES]), speakers, read_speakers(workdir), workdir
        )
    return state.replace(
        params=params,
        batch_stats=parallel.put_like(network["batch_stats"], state.batch_stats),
        average=parallel.put_like(network, state.average) if state.average else state.average,
    )


@contextlib.contextmanager
def unclaim_on_error(workdir: Path) -> Iterator[None]:
    """If a run without a checkpoint is refused inside, its directory is free for another configuration afterwards."""
    try:
        yield
    except UserError:
        if is_first_process():
            (workdir / CONFIG_NAME).unlink(missing_ok=True)
        raise


def _match_prototypes(
    fresh: Float[Array, "rows K E"],
    old: Float[np.ndarray, "old_rows K_old E_old"],
    speakers: tuple[str, ...],
    old_speakers: list[str],
    workdir: Path,
) -> Float[Array, "rows K E"]:
    """Takes the old prototype of every speaker that has one, and the fresh one of all others."""
    if fresh.shape[1:] != old.shape[1:]:
        raise UserError(
            f"The prototypes of {workdir} have (sub-centres, dimension) {old.shape[1:]}, this run's {fresh.shape[1:]}; "
            "give loss.sub_centres and model.embedding_dim the same values, or start.head=fresh."
        )
    row_of = {speaker: row for row, speaker in enumerate(old_speakers)}
    rows = np.full(len(fresh), -1, np.int32)
    rows[: len(speakers)] = [row_of.get(speaker, -1) for speaker in speakers]
    if (rows < 0).all():
        raise UserError(
            f"None of the {len(speakers)} speakers is a speaker of {workdir} (e.g. {speakers[0]!r} here, "
            f"{old_speakers[0]!r} there); use start.head=fresh."
        )
    # Each device gets the old rows of its slice; rows without an old one keep their random values.
    kept = parallel.put_rows(lambda part: old[np.maximum(rows[part], 0)], fresh.shape, fresh.sharding)
    known = parallel.put_rows(lambda part: rows[part] >= 0, fresh.shape[:1], fresh.sharding)
    return jax.jit(_choose, out_shardings=fresh.sharding)(known, kept, fresh)


def _choose(known: Array, kept: Array, fresh: Array) -> Array:
    return jnp.where(known[:, None, None], kept, fresh)
