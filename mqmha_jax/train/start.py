"""Initial parameters of a run: fine-tuning starts from the network and the prototypes of an earlier run."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mqmha_jax import parallel
from mqmha_jax.config import StartConfig
from mqmha_jax.errors import UserError
from mqmha_jax.parallel import PROTOTYPES
from mqmha_jax.processes import raise_together
from mqmha_jax.runs.carry_over import carry_over
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.run_files import CONFIG_NAME
from mqmha_jax.runs.state import TrainState
from mqmha_jax.runs.workdir import read_runnable_config, read_speakers
from mqmha_jax.say import Say

_SUB_CENTRE_SPREAD = 0.1  # distance of sub-centres from the mean of their speaker, which has length one

_log = logging.getLogger(__name__)


def initialize_from_run(
    state: TrainState,
    config: StartConfig,
    speakers: tuple[str, ...],
    mean_embeddings: Callable[[Mapping[str, PyTree]], Float[np.ndarray, "C E"]],
    *,
    say: Say = _log.info,
) -> TrainState:
    """Replaces the parameters of the initial state by those of another run; optimizer, counters and step begin anew.

    A part that the other network does not have, such as another pooling, keeps its random values; see ``carry_over``.

    Prototypes are matched by the speakers' names. So copies at other speeds drop out if the new run trains without
    them, and a subset of the speakers or additional ones need no special case. Or they start from the mean embedding
    of each speaker.

    Args:
      state: the state before the first step, on the mesh.
      config: the other run; an empty one leaves the state as it is.
      speakers: names of the new run's C classes.
      mean_embeddings: variables of the network -> the mean embedding of each class, of length one.
      say: gets a sentence about what was loaded and what starts at random.

    Raises:
      UserError: the options name no run; the run does not exist, its encoder has another architecture, or its
        prototypes have another shape.
    """
    if not config.run:
        if config != StartConfig():
            raise UserError(
                "start.step, start.head and start.batch_norm say what to take from another run, but start.run names "
                "none; set start.run=RUN, or leave them out."
            )
        return state
    workdir = Path(config.run)
    # A process whose user has not trained with the run's code is refused alone, before all meet in Orbax.
    with raise_together():
        read_runnable_config(workdir)
    with raise_together():
        loaded = load_network(workdir, config.step, with_head=config.head == "match")
    network, fresh_parts, widened = carry_over(
        loaded.variables,
        loaded.net.pooling,
        state.network(),
        workdir,
        advice=f"Give model.encoder the options of that run ('mqmha show {workdir / CONFIG_NAME}').",
    )
    rest = f"; new, from random values: {', '.join(fresh_parts)}" if fresh_parts else ""
    rest += "; the layer behind its statistics now reads those of every query" if widened else ""
    say(f"Loaded the network of {workdir}, step {loaded.step}{rest}.")
    head = dict(state.params["head"])
    if config.head != "fresh" and PROTOTYPES not in head:
        raise UserError(f"start.head={config.head} sets prototypes, but this loss has none; use start.head=fresh.")
    if config.head == "match":
        head[PROTOTYPES] = _match_run(head[PROTOTYPES], loaded.head, workdir, speakers)
    elif config.head == "means":
        if any(part.startswith("embedding") for part in fresh_parts):
            raise UserError(
                f"start.head=means embeds the training speakers with the network of {workdir}, but its layer from "
                "pooling to embedding has another size here and starts at random; use start.head=fresh."
            )
        head[PROTOTYPES] = _from_means(head[PROTOTYPES], mean_embeddings(network))
    return state.replace(
        params={"net": network["params"], "head": head},
        batch_stats=network["batch_stats"],
        average=jax.tree.map(jnp.copy, network) if state.average else state.average,
    )


def _match_run(
    fresh: Float[Array, "rows K E"], head: Mapping[str, PyTree], workdir: Path, speakers: tuple[str, ...]
) -> Array:
    """The prototypes of another run, by the speakers' names."""
    with raise_together():
        if PROTOTYPES not in head:
            raise UserError(
                f"start.head=match needs the prototypes of {workdir}, which has none; use start.head=means (each "
                "speaker's mean embedding) or start.head=fresh."
            )
        try:
            old_speakers = read_speakers(workdir)
        except UserError as error:
            raise UserError(
                f"{error} Use start.head=fresh or start.head=means to start without their names."
            ) from error
    return _match_prototypes(fresh, np.asarray(head[PROTOTYPES]), speakers, old_speakers, workdir)


def _from_means(fresh: Float[Array, "rows K E"], means: Float[np.ndarray, "C E"]) -> Float[Array, "rows K E"]:
    """Each speaker's mean as its prototype; several sub-centres lie around it, because equal ones would never part."""
    rows = np.zeros((fresh.shape[0], fresh.shape[2]), np.float32)
    rows[: len(means)] = means
    placed = parallel.put_rows(lambda part: rows[part], rows.shape, fresh.sharding)
    spread = _SUB_CENTRE_SPREAD if fresh.shape[1] > 1 else 0.0
    around = jax.jit(lambda means, fresh: means[:, None] + spread * fresh, out_shardings=fresh.sharding)
    return around(placed, fresh)


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
