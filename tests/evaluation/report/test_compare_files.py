"""Comparing evaluations on disk gives the numbers of compare_systems and a verdict in plain words."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.data.lists import read_utt2spk
from mqmha_jax.data.metadata import Metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.bootstrap import trial_speakers
from mqmha_jax.evaluation.metrics.compare import Comparison, compare_systems
from mqmha_jax.evaluation.metrics.measure_list import Measuring, Scores, evaluate_list
from mqmha_jax.evaluation.report.compare_files import SystemFile, compare_files, describe_verdict, format_comparisons
from mqmha_jax.evaluation.report.output_files import SPEAKERS_FILE
from mqmha_jax.evaluation.report.tables import write_numbers
from mqmha_jax.evaluation.results import Evaluation
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.json_file import write_sealed_json
from mqmha_jax.types import Trials
from tests.support.clouds import all_pairs, cloud, speakers_of

TRIALS = all_pairs(cloud(21, utterances=3).ids)
UTT2SPK = speakers_of(cloud(21, utterances=3).ids)


def scores(spread: float, seed: int) -> np.ndarray:
    return cosine_scores(cloud(21, utterances=3, spread=spread, seed=seed), TRIALS)


SEEDS = {"worse1": scores(1.4, 1), "worse2": scores(1.4, 2), "better1": scores(0.8, 3), "better2": scores(0.8, 4)}


def save(directory: Path, own: np.ndarray, trials: Trials = TRIALS, *, known: bool = True, name: str = "own") -> None:
    utt2spk = UTT2SPK if known else {}
    systems = {"cosine": Scores(own), "other": Scores(own.round(1))}
    part = evaluate_list(name, trials, systems, known=Metadata(utt2spk, {}), measuring=Measuring(replicates=0))
    write_numbers(directory, Evaluation((part,), {}, (), {}, None, utt2spk))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    for name, own in SEEDS.items():
        save(root / name, own)
    backwards = Trials(TRIALS.enrol[::-1], TRIALS.test[::-1], TRIALS.target[::-1])
    save(root / "backwards", SEEDS["better1"][::-1], backwards)
    save(root / "elsewhere", SEEDS["better1"], name="another list")
    save(root / "unknown", SEEDS["better1"], known=False)
    fewer = Trials(TRIALS.enrol[1:], TRIALS.test[1:], TRIALS.target[1:])
    save(root / "fewer", SEEDS["better1"][1:], fewer)
    return root


def test_numbers_match_the_paired_bootstrap(saved: Path) -> None:
    files = [[SystemFile(saved / f"{name}{i}") for i in (1, 2)] for name in ("worse", "better")]
    (found,) = compare_files(*files, replicates=100)
    a, b = (np.stack([SEEDS[f"{name}{i}"].astype(float) for i in (1, 2)]) for name in ("worse", "better"))
    expected = compare_systems(a, b, TRIALS.target, *trial_speakers(TRIALS, UTT2SPK), replicates=100)
    assert found.metrics["eer"] == expected["eer"]
    text = format_comparisons([found], "old", "new")
    assert text.startswith("A: old\nB: new\n\nown: 21 speakers\n  EER %: A ")
    assert describe_verdict(found.metrics["eer"]) in text
    (single,) = compare_files(files[0][:1], files[1][:1], replicates=100)
    assert describe_verdict(single.metrics["eer"]).startswith("B is better than A: the 95% interval excludes 0")


def test_the_order_of_a_list_does_not_matter(saved: Path) -> None:
    file = SystemFile(saved / "worse1" / "metrics.json")
    straight = compare_files([file], [SystemFile(saved / "better1")], replicates=50)
    assert compare_files([file], [SystemFile(saved / "backwards")], replicates=50) == straight


def test_names_with_spaces_are_compared(saved: Path, tmp_path: Path) -> None:
    def spaced(name: str) -> str:
        return name.replace("s", "speaker ")

    trials = TRIALS._replace(enrol=tuple(map(spaced, TRIALS.enrol)), test=tuple(map(spaced, TRIALS.test)))
    utt2spk = {spaced(utterance): spaced(speaker) for utterance, speaker in UTT2SPK.items()}
    for name in ("worse1", "better1"):
        systems = {"cosine": Scores(SEEDS[name])}
        part = evaluate_list("own", trials, systems, known=Metadata(utt2spk, {}), measuring=Measuring(replicates=0))
        write_numbers(tmp_path / name, Evaluation((part,), {}, (), {}, None, utt2spk))
    assert read_utt2spk(tmp_path / "worse1" / SPEAKERS_FILE) == utt2spk
    (found,), (plain,) = (
        compare_files([SystemFile(root / "worse1")], [SystemFile(root / "better1")], replicates=50)
        for root in (tmp_path, saved)
    )
    assert found.metrics["eer"].a == plain.metrics["eer"].a


def test_systems_of_one_evaluation_can_be_compared(saved: Path) -> None:
    (found,) = compare_files([SystemFile(saved / "worse1")], [SystemFile(saved / "worse1", "other")], replicates=50)
    assert found.metrics["eer"].a != found.metrics["eer"].b


def test_incomparable_evaluations_are_refused(saved: Path, tmp_path: Path) -> None:
    good = [SystemFile(saved / "worse1")]
    for name, message in (
        ("elsewhere", r"have no list in common \(.*worse1/metrics.json: own; .*elsewhere/metrics.json: another list\)"),
        (
            "fewer",
            r"its 1952 trials differ from the 1953 of the first evaluation; evaluate both systems on the same list own",
        ),
    ):
        with pytest.raises(UserError, match=message):
            compare_files(good, [SystemFile(saved / name)])
    with pytest.raises(
        UserError, match=r"metrics.json holds no speakers, which a comparison needs; evaluate again with --metadata"
    ):
        compare_files([SystemFile(saved / "unknown")], good)
    with pytest.raises(UserError, match=r"Unknown system in .* 'cosin'. Did you mean 'cosine'"):
        compare_files(good, [SystemFile(saved / "better1", "cosin")])
    with pytest.raises(UserError, match=r"metrics.json cannot be read \(No such file.*Run 'mqmha evaluate'"):
        compare_files(good, [SystemFile(tmp_path)])
    written = (saved / "worse1" / "metrics.json").read_text()
    for text, message in (
        ("{", "is not valid JSON"),
        ("[]", r"holds a list .* not an object"),
        (json.dumps({"eer": 1}), "checksum does not match"),
        (written.replace("own", "owm"), "checksum does not match"),
    ):
        (tmp_path / "metrics.json").write_text(text)
        with pytest.raises(UserError, match=message):
            compare_files(good, [SystemFile(tmp_path)])
    write_sealed_json(tmp_path / "metrics.json", {"format_version": 1})
    with pytest.raises(UserError, match=r"written by another version of 'mqmha evaluate' \(format 1, here 2\)"):
        compare_files(good, [SystemFile(tmp_path)])


@pytest.mark.parametrize(
    ("interval", "probability", "num_speakers", "said"),
    [
        ((-0.03, -0.01), 0.99, 40, "B is better than A: the 95% interval excludes 0; better in 99% of the resamples."),
        ((0.01, 0.03), 0.01, 40, "A is better than B: the 95% interval excludes 0; better in 99% of the resamples."),
        (
            (-0.03, 0.01),
            0.8,
            40,
            "Not distinguishable: this list shows no clear difference between A and B; B is better in 80% of the "
            "resamples.",
        ),
        (
            (-0.03, 0.01),
            0.56,
            10,
            "Not distinguishable: this list, which has few speakers, shows no clear difference between A and B; B "
            "is better in 56% of the resamples.",
        ),
        ((-0.03, -0.01), 0.99, 10, "Too few speakers for a verdict; B is better in 99% of the resamples."),
    ],
)
def test_verdicts(interval: tuple[float, float], probability: float, num_speakers: int, said: str) -> None:
    difference = sum(interval) / 2
    assert (
        describe_verdict(Comparison(0.1, 0.1 + difference, difference, interval, probability, 0.05, num_speakers))
        == said
    )


def test_changed_scores_are_refused(saved: Path, tmp_path: Path) -> None:
    """One changed digit used to change the comparison silently."""
    directory = tmp_path / "changed"
    shutil.copytree(saved / "better1", directory)
    path = next(directory.glob("scores_*.txt"))
    text = path.read_text()
    digit = next(i for i, letter in enumerate(text) if letter in "123456")
    path.write_text(text[:digit] + "7" + text[digit + 1 :])
    with pytest.raises(UserError, match=r"scores_.*txt differs from what 'mqmha evaluate' wrote. Restore it, or"):
        compare_files([SystemFile(saved / "worse1")], [SystemFile(directory)], replicates=20)
    path.unlink()
    with pytest.raises(UserError, match=r"scores_.*txt cannot be read \(No such file or directory\)"):
        compare_files([SystemFile(saved / "worse1")], [SystemFile(directory)], replicates=20)
