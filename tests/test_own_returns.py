"""Parts of one's own that return another shape are refused while JAX traces them; many would broadcast silently."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from mqmha_jax.config import LossConfig, PairTerm
from mqmha_jax.errors import UserError
from mqmha_jax.losses import MARGINS, PAIRS, LossInputs, Margin, PairLoss, build_loss
from mqmha_jax.models.speaker_net import SpeakerNet

EMBEDDINGS = jax.random.normal(jax.random.key(0), (4, 3))
INPUTS = LossInputs(EMBEDDINGS, jnp.arange(4))


def trace_loss(**options: Any) -> None:
    loss = build_loss(LossConfig(**{"sub_centres": 1, **options}), num_speakers=5, embedding_dim=3)
    params = loss.init(jax.random.key(0))
    jax.eval_shape(lambda: loss.apply(params, loss.initial_state, INPUTS, margin=0.1, penalty=0.1))


def keep(cosine: jax.Array, *rest: Any) -> jax.Array:
    return cosine


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (Margin(lambda c, m, e: c[:1]), r"target <lambda> \(.*test_own_returns\.py, line \d+\) .*\(1,\).*\(4,\)"),
        (Margin(lambda c, m, e: c.mean()), r"target .* returned float32 of shape \(\)\. .* shape \(4,\)"),
        (Margin(keep, negative=lambda c, t, m, e: t), r"negative .* of shape \(4, 1\)\. .* shape \(4, \d+\)"),
        (Margin(keep, penalise=lambda c, p: c[:1]), r"penalise .* of shape \(1, \d+\)\. .* shape \(4, \d+\)"),
        (Margin(keep, logit=lambda c, s, e: c[:1]), r"logit .* of shape \(1,\)\. .* shape \(4,\)"),
        (Margin(keep, similarity=lambda e, p: e[:, :1]), r"similarity .* of shape \(4, 1\)\. .* shape \(4, \d+\)"),
        (Margin(keep, classification=lambda *all_: jnp.ones(())), r"classification .* of shape \(\)\. .*\(4,\)"),
        (Margin(keep, init_state={"t": 0.0}, update=lambda s, n, c: {"u": 0}), r"returned u; it must .* scalars t"),
        (Margin(keep, init_state={"t": 0.0}, update=lambda s, n, c: {"t": c}), r"update .*, t returned .*\(4,\)"),
    ],
)
def test_a_margin_that_returns_another_shape_is_refused(
    monkeypatch: pytest.MonkeyPatch, pair: Margin, message: str
) -> None:
    monkeypatch.setitem(MARGINS, "mine", lambda: pair)
    with pytest.raises(UserError, match=message):
        trace_loss(name="mine", top_k=2)


def test_a_loss_over_pairs_that_averages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAIRS, "mine", lambda: PairLoss(lambda params, batch: batch.embedding.mean()))
    with pytest.raises(UserError, match=r"over pairs <lambda> .* shape \(\)\. .* shape \(4,\): .* not averaged"):
        trace_loss(top_k=0, pairs=(PairTerm(name="mine"),))


class Encoder(nn.Module):
    change: Callable[[jax.Array, jax.Array], Any]

    @nn.compact
    def __call__(self, fbank, mask, *, train):
        return self.change(fbank, mask)


class Pooling(nn.Module):
    change: Callable[[jax.Array], Any] = lambda frames: frames.mean(axis=1)

    @nn.compact
    def __call__(self, frames, mask, *, train=False):
        return self.change(frames)


@pytest.mark.parametrize(
    ("encoder", "pooling", "message"),
    [
        (
            lambda x, m: (x[:, ::2], m),
            None,
            r"Encoder .*frames of shape \(4, 3, 5\) and as mask bool of shape \(4, 6\)",
        ),
        (lambda x, m: (x, m.astype(int)), None, r"as mask int32 of shape \(4, 6\)\. The mask must be bool"),
        (lambda x, m: (x[:1], m[:1]), None, r"frames: returned float32 of shape \(1, 6, 5\)\. .*\(4, any, any\)"),
        (lambda x, m: (x[..., None], m), None, r"frames: returned float32 of shape \(4, 6, 5, 1\)"),
        (
            lambda x, m: x,
            None,
            r"The encoder Encoder \(.*test_own_returns\.py, line \d+\) .* must return frames .* mask",
        ),
        (None, lambda x: x.mean((0, 1))[None], r"pooling Pooling \(.*, line \d+\) .* \(1, 5\)\. .*\(4, any\)"),
        (None, lambda x: x, r"pooling Pooling .* returned float32 of shape \(4, 6, 5\)"),
        (None, lambda x: x.mean(axis=(1, 2)), r"pooling Pooling .* returned float32 of shape \(4,\)"),
    ],
)
def test_an_encoder_or_pooling_that_returns_another_shape_is_refused(encoder, pooling, message) -> None:
    net = SpeakerNet(Encoder(encoder or (lambda x, m: (x, m))), Pooling(pooling) if pooling else Pooling(), 2)
    fbank, mask = jnp.zeros((4, 6, 5)), jnp.ones((4, 6), bool)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda: net.init(jax.random.key(0), fbank, mask, train=True))
