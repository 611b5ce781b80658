"""Builds a loss from a configuration: a classification over speakers, plus losses over pairs with their weights."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jaxtyping import Float, Int32, UInt32

from mqmha_jax.config import LossConfig, Part
from mqmha_jax.errors import UserError
from mqmha_jax.losses.check_inputs import check_top_k
from mqmha_jax.losses.class_layout import ClassLayout
from mqmha_jax.losses.class_reducer import ClassReducer, Similarity
from mqmha_jax.losses.diagnostics import diagnose, initialize_memory
from mqmha_jax.losses.inter_topk import penalise_nearest
from mqmha_jax.losses.margin_softmax import Metrics, margin_softmax
from mqmha_jax.losses.margins import MARGINS, Example, Margin
from mqmha_jax.losses.negative_shifts import NegativeShift, Scalar, penalise_above, raise_hard_negatives
from mqmha_jax.losses.pairs import PAIRS, Batch, PairLoss
from mqmha_jax.models.head import blend_cosines, init_prototypes, nearest_cosines
from mqmha_jax.models.registry import build_part
from mqmha_jax.own_code.returns import name_function, require_floats
from mqmha_jax.parallel import PROTOTYPES, check_axes, check_classes

_THRESHOLD = "penalised_above"
"""State of ``loss.penalised=above_mean``: the previous batch's mean top-k cosine."""
_PENALISE_NOBODY = 1e30
"""Its first value: above every cosine."""


class LossInputs(NamedTuple):
    """The batch that a loss is computed from.

    Attributes:
      embedding: embeddings of any length; half precision is widened to float32.
      speaker: their classes, 0 to C - 1; the loss of any other is NaN.
      example: number of each example in the run; losses that choose a query among a speaker's utterances need it.
    """

    embedding: Float[Array, "B E"]
    speaker: Int32[Array, " B"]
    example: UInt32[Array, " B"] | None = None


@runtime_checkable
class ApplyLoss(Protocol):
    """``(params, state, inputs, *, margin, penalty) -> (loss [B], metrics {name: [B]}, new state)``."""

    def __call__(
        self, params: Any, state: Any, inputs: LossInputs, *, margin: Scalar, penalty: Scalar
    ) -> tuple[Float[Array, " B"], Metrics, Any]: ...


class Loss(NamedTuple):
    """A loss in Optax's style: pure functions over parameters and state.

    Attributes:
      init: random key -> parameters: ``prototypes`` ``f32[rows,K,E]`` with the padding of ``ClassLayout``, and learned
        scalars under the name of their loss.
      initial_state: what the loss carries from step to step; empty for most losses.
      apply: see :class:`ApplyLoss`. It averages nothing; margin and penalty may be traced.
    """

    init: Callable[[Array], Any]
    initial_state: Any
    apply: ApplyLoss


def build_loss(
    config: LossConfig, *, num_speakers: int, embedding_dim: int, mesh: Mesh | None = None, class_chunk: int = 0
) -> Loss:
    """Builds the loss that a configuration describes.

    Args:
      config: margin, scale, sub-centres, penalty, and losses over pairs.
      num_speakers: C, the number of classes.
      embedding_dim: E.
      mesh: from ``device_mesh``; its axis ``model`` divides the classes. None: one device.
      class_chunk: maximum number of classes whose cosines are held at once; 0: all classes of a device.

    Returns:
      The loss. ``config.margin`` and ``config.penalty`` are final values of schedules, so ``apply`` takes the values of
      the step as arguments.

    Raises:
      UserError: an unknown loss or option, a ``top_k`` that is not below the number of speakers, options that exclude
        each other, weights that are all 0, or a mesh of another kind or that does not divide the classes.
    """
    form, terms = _build_terms(config)
    check_top_k(config.top_k, num_speakers, name="loss.top_k")
    layout = ClassLayout(num_speakers, mesh, class_chunk, _similarity(config, form))
    if mesh is not None:
        check_axes(mesh)
        check_classes(layout.num_rows, mesh)

    def init(key: Array) -> dict[str, Any]:
        prototypes = init_prototypes(key, layout.num_rows, config.sub_centres, embedding_dim)
        # Padding rows start at zero and stay there: they get no gradient, and weight decay of zero is zero.
        is_speaker = jnp.arange(layout.num_rows) < num_speakers
        learned = {config.name: form.init_params} | {name: loss.init_params for name, (_, loss) in terms.items()}
        scalars = {name: _arrays(values) for name, values in learned.items() if values}
        return {PROTOTYPES: jnp.where(is_speaker[:, None, None], prototypes, 0)} | scalars

    def example_loss(
        classes: ClassReducer, norm: Float[Array, " B"], shared: Mapping[str, Any]
    ) -> tuple[Float[Array, " B"], Metrics, Int32[Array, "B k"]]:
        return margin_softmax(
            classes,
            Example(norm, shared["params"], shared["state"]),
            form=form,
            scale=config.scale,
            margin=shared["margin"],
            shifts=_list_shifts(config, form, shared["penalty"], shared["threshold"]),
            num_nearest=max(config.top_k, 1),
            label_smoothing=config.label_smoothing,
        )

    def apply(
        params: dict[str, Any], state: Any, inputs: LossInputs, *, margin: Scalar, penalty: Scalar
    ) -> tuple[Float[Array, " B"], Metrics, Any]:
        remembered = {name: state[name] for name in form.init_state}
        shared = {
            "margin": jnp.asarray(margin),
            "penalty": jnp.asarray(penalty),
            "threshold": state.get(_THRESHOLD),
            "params": params.get(config.name, {}),
            "state": remembered,
        }
        prototypes, batch = params[PROTOTYPES], _batch(inputs)
        loss, metrics, nearest = layout.reduce(example_loss, prototypes, batch.embedding, batch.speaker, shared)
        if _THRESHOLD in state:
            # The mean of this batch serves the next one: within a step, devices and chunks would each need it before
            # they could compute it.
            state = state | {_THRESHOLD: metrics["top_negative_cosine"].mean().astype(state[_THRESHOLD].dtype)}
        if form.init_state:
            norm = jnp.linalg.norm(batch.embedding, axis=-1)
            # Running statistics are not a path of the gradient, as in batch normalisation's running mean.
            updated = form.update(remembered, norm, metrics["target_cosine"])
            _check_update(form, updated)
            state = state | lax.stop_gradient(updated)
        if config.diagnostics:
            measured, memory = diagnose(state["memory"], prototypes, *batch, nearest)
            metrics, state = metrics | measured, state | {"memory": memory}
        # A class number that does not exist would otherwise give a plausible loss without a target.
        loss = jnp.where((batch.speaker >= 0) & (batch.speaker < num_speakers), loss, jnp.nan)
        loss = config.weight * loss if config.weight != 1 else loss
        for name, (weight, term) in terms.items():
            metrics[name] = term.apply(params.get(name, {}), batch)
            what = f"The loss over pairs {name_function(term.apply)}"
            require_floats(metrics[name], batch.speaker.shape, what, "the loss of each example, not averaged")
            loss += weight * metrics[name]
        return loss, metrics, state

    threshold = {_THRESHOLD: _PENALISE_NOBODY} if config.penalised == "above_mean" else {}
    memory = initialize_memory(layout.num_rows, max(config.top_k, 1), config.sub_centres)
    initial_state = _arrays({**form.init_state, **threshold}) | ({"memory": memory} if config.diagnostics else {})
    return Loss(init=init, initial_state=initial_state, apply=apply)


def check_loss(config: LossConfig) -> None:
    """Refuses a loss that is not possible with any number of speakers.

    Raises:
      UserError: an unknown loss or option, options that exclude each other, or weights that are all 0.
    """
    _build_terms(config)


def _build_terms(config: LossConfig) -> tuple[Margin, dict[str, tuple[float, PairLoss]]]:
    """The margin, and each loss over pairs with its weight, by name."""
    form = build_part("loss", MARGINS, Part(name=config.name, options=config.options))
    if not isinstance(form, Margin):
        raise UserError(
            f"loss.name={config.name} returned {type(form).__name__}; a margin loss returns a Margin, as in "
            "docs/losses.md."
        )
    terms = {
        term.name: (term.weight, build_part("loss over pairs", PAIRS, Part(name=term.name, options=term.options)))
        for term in config.pairs
    }
    _check(config, form)
    return form, terms


def _list_shifts(config: LossConfig, form: Margin, penalty: Scalar, threshold: Scalar | None) -> list[NegativeShift]:
    """Lists what happens to negatives, in order; the penalty comes last and moves the result of the others."""
    shifts: list[NegativeShift] = []
    if config.hard_negatives:
        shifts.append(raise_hard_negatives(config.hard_negatives))
    if config.top_k:
        shifts.append(
            penalise_nearest(form.penalise, penalty)
            if threshold is None
            else penalise_above(threshold, form.penalise, penalty)
        )
    return shifts


def _similarity(config: LossConfig, form: Margin) -> Similarity:
    if config.sub_centre_temperature:
        return functools.partial(blend_cosines, temperature=config.sub_centre_temperature)
    return form.similarity if form.similarity is nearest_cosines else _check_similarity(form.similarity)


def _check_similarity(similarity: Similarity) -> Similarity:
    what = f"similarity {name_function(similarity)}"

    def checked(embedding: Float[Array, "B E"], prototypes: Float[Array, "c K E"]) -> Float[Array, "B c"]:
        result = similarity(embedding, prototypes)
        require_floats(result, (len(embedding), len(prototypes)), what, "each example compared with each class")
        return result

    return checked


def _check_update(form: Margin, updated: Any) -> None:
    what = f"update {name_function(form.update)}"
    if not isinstance(updated, Mapping) or updated.keys() != form.init_state.keys():
        returned = ", ".join(updated) if isinstance(updated, Mapping) else type(updated).__name__
        raise UserError(f"{what} returned {returned}; it must return the scalars {', '.join(form.init_state)}.")
    for name, value in updated.items():
        require_floats(value, (), f"{what}, {name}", "one number that the loss remembers")


def _check(config: LossConfig, form: Margin) -> None:
    if config.sub_centre_temperature and form.similarity is not nearest_cosines:
        raise UserError(
            f"loss.sub_centre_temperature blends cosines, but the loss {config.name!r} has none. Use another loss, or "
            "0 to take the nearest sub-centre."
        )
    names = [term.name for term in config.pairs]
    if len(set(names)) < len(names):
        raise UserError(f"loss.pairs names a loss twice: {', '.join(names)}. Give each loss one weight.")
    if not config.weight and not any(term.weight for term in config.pairs):
        raise UserError(
            f"The loss trains nothing: loss.weight is 0, and {'so are all weights in' if names else 'there is no'} "
            "loss.pairs. Give one of the losses a weight above 0."
        )


def _batch(inputs: LossInputs) -> Batch:
    rows = jnp.arange(len(inputs.speaker), dtype=jnp.uint32)
    embedding = inputs.embedding.astype(jnp.promote_types(inputs.embedding.dtype, jnp.float32))
    return Batch(embedding, inputs.speaker, rows if inputs.example is None else inputs.example)


def _arrays(values: Mapping[str, float]) -> dict[str, Any]:
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
