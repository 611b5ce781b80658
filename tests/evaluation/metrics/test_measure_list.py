"""What is reported of scores is what the metrics and the bootstrap say, for every system and side."""

import numpy as np
import pytest

from mqmha_jax.data.metadata import Metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.bootstrap import speaker_bootstrap, trial_speakers
from mqmha_jax.evaluation.metrics.detection import (
    DetectionCurve,
    act_dcf,
    cllr,
    detection_curve,
    equal_error_rate,
    min_dcf,
)
from mqmha_jax.evaluation.metrics.measure_list import Measuring, Scores, evaluate_list
from mqmha_jax.evaluation.report.tables import format_tables
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.types import Trials
from tests.support.clouds import all_pairs, cloud, speakers_of

EMBEDDINGS = cloud(21)
TRIALS = all_pairs(EMBEDDINGS.ids)
COSINE = cosine_scores(EMBEDDINGS, TRIALS)
KNOWN = Metadata(speakers_of(EMBEDDINGS.ids), {"take": {name: name[-1] for name in EMBEDDINGS.ids}})
FEW = Measuring(replicates=40)


def test_numbers_are_those_of_the_metrics_and_the_bootstrap() -> None:
    llr = 5 * COSINE - 2
    systems = {"cosine": Scores(COSINE), "calibrated": Scores(llr, calibrated=True)}
    found = evaluate_list("list", TRIALS, systems, known=KNOWN, measuring=FEW._replace(p_targets=[0.2, 0.01]))
    cosine, calibrated = found.systems
    usual = ["EER", "minDCF 0.01", "minDCF 0.05", "minDCF 0.2"]
    assert [*cosine.metrics] == usual
    assert [*calibrated.metrics] == [*usual, "actDCF 0.01", "Cllr", "minCllr"]
    values = {name: measured.value for name, measured in calibrated.metrics.items()}
    assert values["EER"] == equal_error_rate(llr, TRIALS.target)
    assert values["minDCF 0.05"] == min_dcf(llr, TRIALS.target, 0.05)
    assert values["actDCF 0.01"] == act_dcf(llr, TRIALS.target, 0.01)
    assert values["Cllr"] == cllr(llr, TRIALS.target)
    assert cosine.threshold == detection_curve(COSINE, TRIALS.target).equal_error_threshold()
    numbers = trial_speakers(TRIALS, KNOWN.utt2spk)
    alone = speaker_bootstrap(
        COSINE[None], TRIALS.target, *numbers, {"eer": DetectionCurve.equal_error_rate}, replicates=40
    )
    np.testing.assert_allclose(cosine.metrics["EER"][1:], alone.interval()[0, 0])
    assert (found.num_speakers, found.reliable) == (21, True)
    assert found.enrol_speaker is not None
    assert found.enrol_speaker[0] == "s0"
    assert [found.attributes["take"].of(trial)[1] for trial in range(4)] == ["1", "2", "3", "0"]


def test_costs_count_at_every_prior_and_its_name_tells_them() -> None:
    llr = 5 * COSINE - 2
    measuring = Measuring(p_targets=[0.2], replicates=0, costs=(10.0, 1.0))
    found = evaluate_list("list", TRIALS, {"calibrated": Scores(llr, calibrated=True)}, measuring=measuring)
    values = {name: measured.value for name, measured in found.systems[0].metrics.items()}
    dcfs = ["minDCF 0.01 (10:1)", "minDCF 0.05 (10:1)", "minDCF 0.2 (10:1)", "actDCF 0.01 (10:1)"]
    assert [*values] == ["EER", *dcfs, "Cllr", "minCllr"]
    for name, p_target in zip(dcfs, (0.01, 0.05, 0.2), strict=False):
        assert values[name] == min_dcf(llr, TRIALS.target, p_target, 10.0, 1.0)
    assert values[dcfs[3]] == act_dcf(llr, TRIALS.target, 0.01, 10.0, 1.0)
    assert values[dcfs[0]] != min_dcf(llr, TRIALS.target, 0.01)


def test_below_twenty_speakers_intervals_are_called_unreliable() -> None:
    chosen = [i for i, name in enumerate(TRIALS.enrol) if not {name[:3], TRIALS.test[i][:3]} & {"s19", "s20"}]
    part = Trials(tuple(TRIALS.enrol[i] for i in chosen), tuple(TRIALS.test[i] for i in chosen), TRIALS.target[chosen])
    found = evaluate_list("list", part, {"cosine": Scores(COSINE[chosen])}, known=KNOWN, measuring=FEW)
    assert (found.num_speakers, found.reliable) == (19, False)


@pytest.mark.parametrize(
    ("known", "measuring", "num_speakers"), [(Metadata({}, {}), FEW, None), (KNOWN, Measuring(replicates=0), 21)]
)
def test_no_interval_without_speakers_or_resamples(known: Metadata, measuring: Measuring, num_speakers: int) -> None:
    found = evaluate_list("list", TRIALS, {"cosine": Scores(COSINE)}, known=known, measuring=measuring)
    assert found.systems[0].metrics["EER"] == (equal_error_rate(COSINE, TRIALS.target), None, None)
    assert found.num_speakers == num_speakers


def test_two_speakers_are_measured_without_intervals() -> None:
    trials = Trials(("a/1", "b/1", "a/1"), ("a/2", "b/2", "b/1"), np.array([True, True, False]))
    known = Metadata({f"{speaker}/{take}": speaker for speaker in "ab" for take in "12"}, {})
    found = evaluate_list("list", trials, {"s": Scores(np.array([0.9, 0.2, 0.3]))}, known=known, measuring=FEW)
    eer = found.systems[0].metrics["EER"]
    assert 0 < eer.value < 1
    assert (eer.low, eer.high) == (None, None)
    assert "2 speakers: too few for intervals" in format_tables([found])
    wrong = trials._replace(target=np.array([False, True, False]))
    with pytest.raises(UserError, match="list: trial 1 is labelled nontarget, but its sides are of the same speaker"):
        evaluate_list("list", wrong, {"s": Scores(np.array([0.9, 0.2, 0.3]))}, known=known, measuring=FEW)


def test_models_called_like_utterances_of_others_keep_their_own_speakers() -> None:
    trials = Trials(("b/u", "b/u", "a/u", "a/u"), ("a/u", "b/u", "a/u", "b/u"), np.array([True, False, False, True]))
    known = Metadata({"a/u": "a", "b/u": "b"}, {})
    models = Metadata({"b/u": "a", "a/u": "b"}, {})
    scores = Scores(np.array([0.9, 0.1, 0.2, 0.8]))
    found = evaluate_list("list", trials, {"s": scores}, known=known, models=models, measuring=FEW)
    assert found.enrol_speaker == ("a", "a", "b", "b")
    with pytest.raises(UserError, match="labelled target, but its sides are of two speakers"):
        evaluate_list("list", trials, {"s": scores}, known=known, measuring=FEW)


def test_speakers_must_be_known_of_all_or_none() -> None:
    known = Metadata({name: speaker for name, speaker in KNOWN.utt2spk.items() if name != "s3/u1"}, {})
    with pytest.raises(UserError, match="list: the speaker of 's3/u1' is not known, and intervals"):
        evaluate_list("list", TRIALS, {"cosine": Scores(COSINE)}, known=known, measuring=FEW)


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        ([0.1, np.nan], [True, False], "1 of 2 scores are not finite, first trial 2"),
        ([0.1, np.inf], [True, False], "not finite"),
        ([0.1, 0.2], [True, True], "only target trials"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores: list[float], target: list[bool], message: str) -> None:
    trials = Trials(("a", "b"), ("c", "d"), np.array(target))
    with pytest.raises(UserError, match=message):
        evaluate_list("list", trials, {"s": Scores(np.array(scores))})
