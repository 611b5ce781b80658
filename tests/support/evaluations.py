"""Evaluations of simulated speakers, for the tests of the report."""

import numpy as np

from mqmha_jax.data.lists import number_names
from mqmha_jax.data.metadata import Column
from mqmha_jax.evaluation.metrics.detection import detection_curve
from mqmha_jax.evaluation.metrics.results import ListEvaluation, Measured, SystemScores
from mqmha_jax.types import Embeddings, Trials


def system_scores(name, scores, target, *, calibrated=False):
    """Makes a system with metrics and invented intervals."""
    curve = detection_curve(scores, target)
    values = {"EER": curve.equal_error_rate(), "minDCF 0.01": curve.min_dcf(0.01), "minDCF 0.05": curve.min_dcf(0.05)}
    if calibrated:
        values |= {"actDCF 0.01": curve.act_dcf(0.01), "Cllr": curve.cllr(), "minCllr": curve.min_cllr()}
    metrics = {metric: Measured(value, value * 0.8, value * 1.3) for metric, value in values.items()}
    return SystemScores(name, scores, metrics, curve.equal_error_threshold(), calibrated)


def words(enrol, test):
    """Makes a column from the words on each side of the trials."""
    distinct, sides = number_names(enrol, test)
    return Column(*sides, distinct)


def simulate(name="first", *, num_speakers=24, per_speaker=6, prefix="", seed=0):
    """Makes all pairs of utterances of simulated speakers, scores them in three ways, and adds their embeddings."""
    rng = np.random.default_rng(seed)
    speakers = [f"{prefix}s{i:03d}" for i in range(num_speakers)]
    centres = rng.normal(size=(num_speakers, 8))
    owner = np.repeat(np.arange(num_speakers), per_speaker)
    ids = tuple(f"{speakers[i]}/u{n}.wav" for n, i in enumerate(owner))
    vectors = (centres[owner] + 0.9 * rng.normal(size=(len(owner), 8))).astype(np.float32)
    enrol, test = np.triu_indices(len(owner), 1)
    target = owner[enrol] == owner[test]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = (units @ units.T)[enrol, test]
    seconds = rng.uniform(1, 20, len(owner))
    gender = np.where(np.arange(num_speakers) % 2, "male", "female")[owner]
    trials = Trials(tuple(ids[i] for i in enrol), tuple(ids[i] for i in test), target)
    evaluation = ListEvaluation(
        name=name,
        trials=trials,
        enrol_speaker=tuple(speakers[i] for i in owner[enrol]),
        test_speaker=tuple(speakers[i] for i in owner[test]),
        attributes={
            "seconds": Column(seconds[enrol], seconds[test], None),
            "gender": words(gender[enrol].tolist(), gender[test].tolist()),
        },
        systems=(
            system_scores("cosine", cosine, target),
            system_scores("noisy", cosine + rng.normal(size=len(cosine)).astype(np.float32), target),
            system_scores("calibrated", 8 * cosine - 5, target, calibrated=True),
        ),
        num_speakers=num_speakers,
        reliable=num_speakers >= 20,
    )
    return evaluation, Embeddings(ids, vectors)
