"""Wrong arguments of the public functions and modules: a sentence, as users call them, without the tests' checkers."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from mqmha_jax import Embeddings, SpeakerNet, Trials, UserError, centre, cosine_scores
from mqmha_jax.data.embedding_files import write_embeddings
from mqmha_jax.evaluation.scoring.linear_backend import fit_lda
from mqmha_jax.evaluation.scoring.normalization import cohort_statistics
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.models.pooling.mqmha import MQMHA


@pytest.fixture(autouse=True)
def _without_checkers() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


SPOKEN = Embeddings(("a", "b"), np.eye(2, 4, dtype=np.float32))
COHORT = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
FRAMES = jax.ShapeDtypeStruct((4, 4, 80), np.float32)
MASKS = [((4,), bool), ((4, 1), bool), ((1, 4), bool), ((4, 4, 1), bool), ((4, 4), np.float32)]


@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("name", [*POOLINGS, "resnet34", "tdnn", "ecapa512", "campplus", "redimnet_b0", "whole"])
def test_a_mask_of_other_frames_is_refused(name: str, mask: tuple[tuple[int, ...], type]) -> None:
    """One that broadcasts would pool other frames, silently."""
    module = {**POOLINGS, **ENCODERS, "whole": lambda: SpeakerNet(ENCODERS["tdnn"](), MQMHA(), 8)}[name]()
    with pytest.raises(UserError, match=r"Frames of shape \(4, 4, 80\) come with a mask .*\[B,T\] of type bool"):
        jax.eval_shape(
            lambda key, frames, mask: module.init(key, frames, mask, train=False),
            jax.random.key(0),
            FRAMES,
            jax.ShapeDtypeStruct(*mask),
        )


def test_embeddings_whose_ids_are_too_few_are_refused_by_all_that_take_them(tmp_path) -> None:
    wrong = Embeddings(("a", "b"), np.ones((3, 2), np.float32))
    for work in (
        lambda: cosine_scores(wrong, Trials(("a",), ("b",), np.array([True]))),
        lambda: centre(wrong, np.zeros(2)),
        lambda: write_embeddings(tmp_path / "out.npz", wrong),
    ):
        with pytest.raises(UserError, match=r"2 ids and \w+ of shape \(3, 2\); valid: N ids and shape \[N, E\]"):
            work()


@pytest.mark.parametrize(
    ("message", "work"),
    [
        (r"top_n is 7\.0; valid: an integer", lambda: cohort_statistics(SPOKEN, COHORT, top_n=7.0)),
        (
            r"cohort has shape \(9, 3\), the embeddings \(2, 4\); valid: ",
            lambda: cohort_statistics(SPOKEN, COHORT[:, 1:]),
        ),
        (r"cohort has shape \(4,\), the embeddings \(2, 4\); valid: ", lambda: cohort_statistics(SPOKEN, COHORT[0])),
        (r"size is 2\.0; valid: an integer", lambda: fit_lda(COHORT, np.arange(9) // 3, 2.0)),
    ],
)
def test_cohorts_and_sizes_that_do_not_fit_are_refused(message: str, work: Callable[[], object]) -> None:
    with pytest.raises(UserError, match=message):
        work()


def test_trials_of_lists_print_and_unequal_sides_are_refused() -> None:
    trials = Trials(["a", "b"], ["c", "d"], [True, False])
    assert repr(trials) == "<Trials: 1 target, 1 nontarget: 'a c', 'b d'>"
    assert "0 target, 1 nontarget" in repr(Trials(["a"], [], [0]))
    assert repr(Embeddings(["a"], [[1.0, 2.0]])) == "<Embeddings: 1 of size 2: 'a'>"
    embeddings = Embeddings(("a", "b", "c", "d"), jnp.eye(4))
    np.testing.assert_array_equal(cosine_scores(embeddings, trials), [0, 0])
    with pytest.raises(UserError, match="2 enrolment sides, 1 test sides and 2 labels; valid: one of each"):
        cosine_scores(embeddings, Trials(("a", "b"), ("c",), (True, False)))
