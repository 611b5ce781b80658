"""Where a new run's parameters come from: fine-tuning starts from the network and the prototypes of an earlier run."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mqmha_jax import parallel
from mqmha_jax.config import StartConfig
from mqmha_jax.errors import UserError
from mqmha_jax.parallel import PROTOTYPES
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.state import TrainState
from mqmha_jax.runs.workdir import read_config, read_speakers


def initialize_from_run(state: TrainState, config: StartConfig, speakers: tuple[str, ...]) -> TrainState:
    """The initial state with the parameters of another run; optimizer, counters and step begin anew.

    Prototypes are matched by the speakers' names, so that copies at other speeds fall away when the new run trains
    without them ("folding"), and a subset of the speakers or new ones are no special case.

    Args:
      state: the state before the first step, laid over the mesh.
      config: which run; an empty one leaves the state as it is.
      speakers: names of the new run's classes.

    Raises:
      UserError: the run does not exist, its network has another architecture, or its prototypes another shape.
    """
    if not config.run:
        return state
    workdir = Path(config.run)
    read_config(workdir)  # says so if this is no run
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


def _match_prototypes(
    fresh: Float[Array, "rows K E"],
    old: Float[np.ndarray, "old_rows K_old E_old"],
    speakers: tuple[str, ...],
    old_speakers: list[str],
    workdir: Path,
) -> Float[Array, "rows K E"]:
    """The old prototype of every speaker that has one, the fresh one of the others."""
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
            f"None of the {len(speakers)} speakers is one of those of {workdir} (e.g. {speakers[0]!r} here, "
            f"{old_speakers[0]!r} there); use start.head=fresh."
        )
    # Each device gets the old rows of its slice; what no old row stands for stays as it was drawn.
    kept = parallel.put_rows(lambda part: old[np.maximum(rows[part], 0)], fresh.shape, fresh.sharding)
    known = parallel.put_rows(lambda part: rows[part] >= 0, fresh.shape[:1], fresh.sharding)
    return jax.jit(_choose, out_shardings=fresh.sharding)(known, kept, fresh)


def _choose(known: Array, kept: Array, fresh: Array) -> Array:
    return jnp.where(known[:, None, None], kept, fresh)
