"""The bootstrap over speakers: its weights are copies of speakers, and its intervals hold the truth often enough."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import norm

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.bootstrap import (
    bootstrap_interval,
    bootstrap_p_value,
    speaker_bootstrap,
    trial_speakers,
)
from mqmha_jax.evaluation.metrics.detection import DetectionCurve, detection_curve
from mqmha_jax.types import Trials

EER = {"eer": DetectionCurve.equal_error_rate}


def simulated_list(rng, *, num_speakers, eer, target_effect, nontarget_effect, per_speaker=10):
    """Scores whose population EER is known, with a normal effect of every speaker on its trials.

    A target of a scores mean + own(a) + noise, a nontarget of a and b scores with(a) + with(b) + noise.
    """
    deviation = np.sqrt(1 + target_effect**2) + np.sqrt(1 + 2 * nontarget_effect**2)
    own = rng.normal(-norm.ppf(eer) * deviation, target_effect, num_speakers)
    with_others = rng.normal(0, nontarget_effect, num_speakers)
    speaker = np.repeat(np.arange(num_speakers), per_speaker)
    one, other = np.triu_indices(num_speakers, 1)
    repeats = max(1, 5 * len(speaker) // len(one))
    one, other = np.repeat(one, repeats), np.repeat(other, repeats)
    scores = np.concatenate([own[speaker], with_others[one] + with_others[other]])
    target = np.arange(len(scores)) < len(speaker)
    enrol, test = np.concatenate([speaker, one]), np.concatenate([speaker, other])
    return scores + rng.normal(size=len(scores)), target, enrol, test


def coverage(num_lists, replicates, seed=0, **simulation):
    """How often the 95 % interval holds the population EER."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(num_lists):
        scores, *trials = simulated_list(rng, **simulation)
        low, high = speaker_bootstrap(scores[None], *trials, EER, replicates=replicates).interval()[0, 0]
        held += low <= simulation["eer"] <= high
    return held / num_lists


def test_interval_holds_the_population_eer():
    share = coverage(250, 150, num_speakers=30, eer=0.05, target_effect=0.7, nontarget_effect=0.4)
    assert 0.90 <= share <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_speakers", "eer", "target_effect", "nontarget_effect", "per_speaker"),
    [(20, 0.05, 1.0, 0.5, 10), (40, 0.01, 0.7, 0.4, 30), (80, 0.02, 1.0, 0.4, 20), (25, 0.15, 1.0, 0.3, 20)],
)
def test_interval_holds_the_population_eer_of_many_lists(
    num_speakers, eer, target_effect, nontarget_effect, per_speaker
):
    share = coverage(
        600,
        400,
        num_speakers=num_speakers,
        eer=eer,
        target_effect=target_effect,
        nontarget_effect=nontarget_effect,
        per_speaker=per_speaker,
    )
    print(f"coverage {share:.3f}")
    assert 0.90 <= share <= 0.98


def test_replicates_are_lists_of_copied_speakers():
    """Each replicate equals the metric of a list in which the trials of drawn speakers are written out again."""
    rng = np.random.default_rng(1)
    scores, target, enrol, test = simulated_list(
        rng, num_speakers=6, eer=0.2, target_effect=0.5, nontarget_effect=0.5, per_speaker=5
    )
    scores = scores.round(1)  # ties
    metrics = EER | {"min_dcf": partial(DetectionCurve.min_dcf, p_target=0.05), "min_cllr": DetectionCurve.min_cllr}
    result = speaker_bootstrap(np.stack([scores, -scores]), target, enrol, test, metrics, replicates=20, seed=3)
    drawn = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), 20)
    assert result.num_redrawn == 0
    for replicate, count in enumerate(drawn):
        rows = [
            trial
            for trial, (a, b) in enumerate(zip(enrol, test, strict=True))
            for _ in range(count[a] if target[trial] else count[a] * count[b])
        ]
        for system, sign in enumerate((1, -1)):
            curve = detection_curve(sign * scores[rows], target[rows])
            expected = [curve.equal_error_rate(), curve.min_dcf(0.05), curve.min_cllr()]
            np.testing.assert_allclose(result.replicates[replicate, system], expected, atol=1e-12)
    assert result.metrics == ("eer", "min_dcf", "min_cllr")
    np.testing.assert_array_equal(
        result.estimates[:, 0], [detection_curve(s, target).equal_error_rate() for s in (scores, -scores)]
    )


def test_seed_decides_the_resamples_whatever_is_measured():
    trials = simulated_list(np.random.default_rng(2), num_speakers=12, eer=0.1, target_effect=1, nontarget_effect=0)
    scores, target, enrol, test = trials
    both = speaker_bootstrap(np.stack([scores, scores**3]), target, enrol, test, EER, replicates=30, seed=5)
    alone = speaker_bootstrap(scores[None], target.astype(int), enrol * 7 + 3, test * 7 + 3, EER, replicates=30, seed=5)
    np.testing.assert_array_equal(both.replicates[:, :1], alone.replicates)
    np.testing.assert_allclose(both.replicates[:, 0], both.replicates[:, 1], atol=1e-12)  # a monotone map
    other = speaker_bootstrap(scores[None], target, enrol, test, EER, replicates=30, seed=6)
    assert np.abs(other.replicates - alone.replicates).max() > 0.01


def test_few_speakers_are_called_unreliable_and_empty_resamples_are_drawn_anew():
    enrol, test = np.array([0, 1, 2, 0]), np.array([0, 1, 2, 1])
    target = enrol == test
    result = speaker_bootstrap(np.array([[2.0, 3.0, 3.0, 1.0]]), target, enrol, test, EER, replicates=50)
    assert 20 < result.num_redrawn < 100  # 56 % of the draws lack speaker 0 or 1, and so any nontarget trial
    assert not result.reliable
    assert result.num_speakers == 3
    np.testing.assert_array_equal(result.interval(), np.zeros((1, 1, 2)))  # no error on any resample
    many = simulated_list(np.random.default_rng(0), num_speakers=20, eer=0.1, target_effect=0, nontarget_effect=0)
    assert speaker_bootstrap(many[0][None], *many[1:], EER, replicates=2).reliable


def test_two_speakers_have_no_interval():
    """Their only usable resample is the list itself: the interval used to have zero width."""
    enrol, test = np.array([0, 1, 0]), np.array([0, 1, 1])
    with pytest.raises(UserError, match=r"The list has 2 speakers; .* need at least 3\. Add speakers"):
        speaker_bootstrap(np.array([[2.0, 0.5, 1.0]]), enrol == test, enrol, test, EER)


def test_interval_of_a_mean_is_the_textbook_one():
    """Bootstrap means of normal values: Student's interval, which the interval must approach, bias and all."""
    rng = np.random.default_rng(0)
    values = rng.normal(5, 2, 30)
    means = values[rng.integers(30, size=(20_000, 30))].mean(axis=1)
    half_width = 2.045 * values.std(ddof=1) / np.sqrt(30)
    low, high = bootstrap_interval(np.array([values.mean()]), means[:, None], 30)[0]
    assert low == pytest.approx(values.mean() - half_width, abs=0.04)
    assert high == pytest.approx(values.mean() + half_width, abs=0.04)
    # Replicates that are all too low by 0.1 are moved back, which the plain percentile interval does not.
    shifted = bootstrap_interval(np.array([values.mean()]), means[:, None] - 0.1, 30)[0]
    assert shifted.mean() == pytest.approx(values.mean() + 0.1, abs=0.04)


def test_p_value_is_the_level_at_which_the_interval_reaches_zero():
    rng = np.random.default_rng(0)
    replicates = rng.normal([1.0, 0.0, -2.0], 0.6, (20_000, 3)) + 0.1
    estimates = np.array([1.0, 0.0, -2.0])
    p = bootstrap_p_value(estimates, replicates, 25)
    for place, value in enumerate(p):
        low, high = bootstrap_interval(estimates, replicates, 25, level=1 - value)[place]
        assert min(abs(low), abs(high)) < 0.02
    assert p[2] < 0.01 < p[0] < 0.5 < p[1]


def test_speakers_of_trials():
    trials = Trials(("m1", "u2"), ("u1", "u3"), np.array([True, False]))
    enrol, test = trial_speakers(trials, {"m1": "b", "u1": "b", "u2": "a", "u3": "c"})
    np.testing.assert_array_equal(np.stack([enrol, test]), [[1, 0], [1, 2]])
    with pytest.raises(UserError, match=r"The speaker of utterance 'u3' is not known.*add it to utt2spk"):
        trial_speakers(trials, {"m1": "b", "u1": "b", "u2": "a"})


def test_what_cannot_be_resampled_is_refused():
    scores, target = np.array([[1.0, 2.0, 0.0]]), np.array([True, True, False])
    with pytest.raises(
        UserError, match=r"trial list: trial 2 is labelled target, but its sides are of two speakers \(1 such"
    ):
        speaker_bootstrap(scores, target, np.array([0, 1, 0]), np.array([0, 2, 1]), EER)
    with pytest.raises(
        UserError, match="trial list: trial 3 is labelled nontarget, but its sides are of the same speaker"
    ):
        speaker_bootstrap(scores, target, np.array([0, 1, 2]), np.array([0, 1, 2]), EER)
    with pytest.raises(UserError, match="1 of 3 scores are not finite"):
        speaker_bootstrap(scores * [[1, np.nan, 1]], target, np.zeros(3, int), np.zeros(3, int), EER)
    with pytest.raises(UserError, match=r"level is 95\.0; valid: a probability"):
        bootstrap_interval(np.zeros(1), np.zeros((5, 1)), 20, level=95.0)
