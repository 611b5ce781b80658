"""Models of several utterances score as their definition says, written out utterance by utterance."""

import numpy as np
import pytest

from mqmha_jax.data.lists import read_models
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring.cosine import as_norm, cosine_scores
from mqmha_jax.evaluation.scoring.enrolment import enrol_models, enrolment_scores
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.types import Embeddings, Trials

RNG = np.random.default_rng(0)
UTTERANCES = Embeddings(tuple("abcdef"), RNG.standard_normal((6, 5)).astype(np.float32))
MODELS = {"m": ("a", "b", "c"), "f": ("d",)}  # one is called like an utterance
TRIALS = Trials(("m", "f", "m"), ("e", "e", "f"), np.array([True, False, False]))
MEAN = np.full(5, 0.2, np.float32)
CENTRED = centre(UTTERANCES, MEAN)


def unit(name):
    vector = UTTERANCES.vectors[UTTERANCES.ids.index(name)].astype(np.float64) - MEAN
    return vector / np.linalg.norm(vector)


def test_both_averages_are_their_definitions():
    of_scores, of_embeddings = [], []
    for model, test in zip(TRIALS.enrol, TRIALS.test, strict=True):
        of_scores.append(np.mean([unit(own) @ unit(test) for own in MODELS[model]]))
        mean = np.mean([unit(own) for own in MODELS[model]], axis=0)
        of_embeddings.append(mean @ unit(test) / np.linalg.norm(mean))
    scores = enrolment_scores(CENTRED, TRIALS, MODELS, average="scores")
    np.testing.assert_allclose(scores, of_scores, atol=1e-6)
    embeddings = enrolment_scores(CENTRED, TRIALS, MODELS, average="embeddings")
    np.testing.assert_allclose(embeddings, of_embeddings, atol=1e-6)
    assert abs(of_scores[0] - of_embeddings[0]) > 0.01  # they do differ


def test_loud_utterances_weigh_no_more():
    louder = UTTERANCES.vectors.copy()
    louder[0] *= 50
    for average in ("scores", "embeddings"):
        np.testing.assert_allclose(
            enrolment_scores(Embeddings(UTTERANCES.ids, louder), TRIALS, MODELS, average=average),
            enrolment_scores(UTTERANCES, TRIALS, MODELS, average=average),
            atol=1e-6,
        )


def test_a_model_of_one_utterance_is_that_utterance_with_any_normalisation():
    single = {f"model {name}": (name,) for name in UTTERANCES.ids}
    models = enrol_models(CENTRED, single)
    cohort = RNG.standard_normal((30, 5)).astype(np.float32)
    trials = Trials(("model a", "model b"), ("c", "f"), np.array([True, False]))
    plain = Trials(("a", "b"), ("c", "f"), trials.target)
    np.testing.assert_allclose(cosine_scores(CENTRED, trials, models=models), cosine_scores(CENTRED, plain), atol=1e-6)
    np.testing.assert_allclose(
        as_norm(CENTRED, trials, cohort - MEAN, top_n=9, models=models),
        as_norm(CENTRED, plain, cohort - MEAN, top_n=9),
        atol=1e-4,
    )


def test_reads_lists_of_models(tmp_path):
    path = tmp_path / "enrol.txt"
    path.write_text("m a b c\n\nf d\n")
    assert read_models(path) == MODELS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("m a\nf\n", ":2: model 'f' has no utterances; valid: 'model utterance ...'"),
        ("m a\nm b\n", ":2: model 'm' is listed twice"),
        ("m a a\n", ":1: model 'm' has an utterance twice"),
        ("\n", "the list is empty"),
        (b"\xff\xfe", "not a text file in UTF-8"),
    ],
)
def test_malformed_lists_of_models_are_refused(tmp_path, content, message):
    path = tmp_path / "enrol.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read_models(path)


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: the list cannot be read"):
        read_models(tmp_path / "none.txt")
    with pytest.raises(UserError, match="Model 'm' has utterance 'x', which has no embedding; valid: one or"):
        enrol_models(UTTERANCES, {"m": ("a", "x")})
    with pytest.raises(UserError, match="Model 'm' has no utterances"):
        enrol_models(UTTERANCES, {"m": ()})
    for average in ("scores", "embeddings"):
        with pytest.raises(UserError, match=r"trial list, enrolment sides: its trials name 1 unknown utterance: 'k'"):
            enrolment_scores(UTTERANCES, TRIALS._replace(enrol=("m", "k", "f")), MODELS, average=average)
        with pytest.raises(UserError, match=r"trial list, test sides: its trials name 1 unknown utterance: 'k'"):
            enrolment_scores(UTTERANCES, TRIALS._replace(test=("e", "k", "f")), MODELS, average=average)
