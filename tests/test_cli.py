"""The ``mqmha`` command: help that answers, sentences instead of tracebacks, and the way from a run to a decision."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from data_prep.build_shards import build_shards
from data_prep.cli import prepare
from data_prep.manifest import Recording
from data_prep.trials import make_trials, write_trials
from mqmha_jax.cli import main
from mqmha_jax.config import FbankSpec
from mqmha_jax.config_io import to_dict
from tests.support.tiny import tiny_config

TESTED = ("s8", "s9", "s10", "s11")  # the speakers of the run's dev list

COMMANDS = [name for name, command in main.commands.items() if not isinstance(command, click.Group)]


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option_with_its_default(command: str) -> None:
    code, text = invoke(command, "--help")
    assert code == 0
    for parameter in main.commands[command].params:
        if getattr(parameter, "help", None) is not None and parameter.name != "help":
            assert parameter.help.split()[0] in text
            if isinstance(parameter.default, (int, str, Path)) and not isinstance(parameter.default, bool):
                assert f"[default: {parameter.default}" in " ".join(text.split())


@pytest.mark.parametrize("group", [main, prepare], ids=["mqmha", "prep"])
def test_every_short_help_fits_its_line_and_has_a_section(group: click.Group) -> None:
    text = CliRunner(env={"COLUMNS": "80"}).invoke(group, ["--help"]).output
    assert "..." not in text.partition("Commands")[0].partition("Options")[2].replace("ARGS]...", "")
    assert "\nCommands:" not in text, "a command in no section"
    listed = [name for names in group.sections.values() for name in names]
    assert sorted(listed) == sorted(group.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_is_explained_and_every_section_names_options(command: str) -> None:
    parameters = main.commands[command].params
    shown = [p.make_metavar(click.Context(main)).strip("[].") for p in parameters if isinstance(p, click.Argument)]
    assert list(main.commands[command].arguments) == shown
    names = [name for section in main.commands[command].sections.values() for name in section]
    assert len(set(names)) == len(names)
    assert set(names) <= {parameter.name for parameter in parameters}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--steps", "5"], "train.steps=5"),
        (["--steps=5"], "train.steps=5"),
        (["--train.steps", "5"], "train.steps=5"),
        (["--crop-frames", "--quiet"], "data.crop_frames=VALUE"),
        (["--encoder", "ecapa512"], "model.encoder=ecapa512"),
        (["--learning_rate", "0.1"], "optimizer.learning_rate=0.1"),
        (["--data", "shards/train"], "data.train=shards/train"),
    ],
)
def test_an_option_of_the_configuration_is_answered_with_its_form(words: list[str], answer: str) -> None:
    code, text = invoke("train", "configs/demo.py", "--workdir", "x", *words)
    assert code == 2
    assert f"Write options of the configuration as {answer}." in text


def test_an_option_of_several_sections_names_them_all() -> None:
    code, text = invoke("show", "configs/demo.py", "--dev", "d")
    assert code == 2
    assert "as data.dev=d." in text
    code, text = invoke("show", "configs/demo.py", "--noise", "d")
    assert "as augment.noise=d." in text
    code, text = invoke("show", "configs/demo.py", "--name", "x")
    assert " or ".join(["loss.name=x", "optimizer.name=x"]) in text


def test_help_loads_no_heavy_library() -> None:
    program = (
        "import sys; sys.argv = ['mqmha', 'train', '--help']\n"
        "from mqmha_jax.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'numpy', 'librosa', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_a_mistake_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    code, text = invoke("train", tmp_path / "none.py", "--workdir", tmp_path / "run")
    assert code == 1
    assert text.startswith("Error: No configuration file")
    assert "Traceback" not in text
    code, text = invoke("verify", tmp_path, "a.wav", "b.wav")
    assert code == 1
    assert "is not a work directory" in text


def test_an_unknown_command_line_option_offers_the_nearest() -> None:
    code, text = invoke("train", "configs/demo.py", "--workdirr", "x")
    assert code == 2
    assert "--workdir" in text


def test_show_prints_options_parameters_shapes_and_flops() -> None:
    code, text = invoke("show", "configs/voxceleb_resnet34_mqmha.py", "--speakers", 17982)
    assert code == 0
    assert "[1, 25, 2816]" in text  # 81 bins: D = 256 x 11
    assert "[1, 22528]" in text  # 2 D Q with Q = 4
    assert f"{17_982 * 3 * 512:,}" in text  # the head
    assert "GFLOP for a crop of 200 frames" in text
    assert "m': final inter-topK penalty" in text


def test_show_without_a_speaker_count_leaves_the_head_out() -> None:
    code, text = invoke("show", "configs/demo.py")
    assert code == 0
    assert "give --speakers N" in text


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on tones, with audio files, shards and a list to evaluate it on."""
    root = tmp_path_factory.mktemp("cli")
    recordings = [tone(root, speaker, take) for speaker in range(12) for take in range(4)]
    spec = FbankSpec(num_mel_bins=20)
    for name, chosen in (("train", recordings[:32]), ("eval", recordings[32:])):
        build_shards(chosen, root / name, spec=spec, provenance={}, num_workers=0, max_rejected=0, progress=False)
    write_trials(root / "eval.trials", make_trials({r.utterance: r.speaker for r in recordings[32:]}, per_speaker=20))
    data = {"train": str(root / "train"), "dev": str(root / "eval"), "dev_trials": str(root / "eval.trials")}
    config = tiny_config(data, steps=8)
    path = root / "config.json"
    path.write_text(json.dumps({**to_dict(config), "fbank": {"num_mel_bins": 20}}))
    code, text = invoke("train", path, "--workdir", root / "run", "--quiet")
    assert code == 0, text
    assert "Trained 8 steps" in text
    return root / "run"


def tone(root: Path, speaker: int, take: int) -> Recording:
    rng = np.random.default_rng((speaker, take))
    time = np.arange(12_000) / 16_000
    pitch = 100 + 25 * speaker
    buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12)) * 0.1
    waveform = buzz * (0.55 + 0.45 * np.cos(2 * np.pi * 4 * time))  # syllables: a steady buzz is not speech
    path = root / "audio" / f"s{speaker}" / f"{take}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform + 0.01 * rng.normal(size=time.size), 16_000)
    return Recording(f"s{speaker}/{take}", f"s{speaker}", path)


def test_verify_before_an_evaluation_says_how_to_get_a_threshold(workdir: Path) -> None:
    (workdir / "threshold-8.json").unlink(missing_ok=True)
    audio = workdir.parent / "audio"
    code, text = invoke("verify", workdir, audio / "s9/0.wav", audio / "s9/1.wav")
    assert code == 0
    assert f"no threshold is known, run 'mqmha evaluate {workdir}' for one" in text


def test_verify_names_options_that_only_a_calibration_uses(workdir: Path) -> None:
    pair = [workdir.parent / "audio" / name for name in ("s9/0.wav", "s9/1.wav")]
    _, text = invoke("verify", workdir, *pair, "--prior", 0.1, "--confidence", 0.6)
    assert "Warning: --prior and --confidence have no effect: the run has no calibration ('mqmha evaluate " in text
    _, text = invoke("verify", workdir, *pair)
    assert "Warning" not in text


@pytest.fixture
def evaluated(workdir: Path) -> Path:
    code, text = invoke("evaluate", workdir, "--replicates", 20)
    assert code == 0, text
    assert "EER %" in text
    assert "4 speakers; below 20 speakers: interval unreliable" in text
    return workdir / "evaluation"


def test_evaluate_keeps_everything(evaluated: Path) -> None:
    kept = {path.name for path in evaluated.iterdir()}
    assert {"metrics.json", "report.html", "results_eval.png", "results.txt", "scores_eval_cosine.txt"} <= kept
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert 0 <= metrics["lists"]["eval"]["systems"]["cosine"]["metrics"]["EER"]["value"] <= 1


def test_the_dev_eer_of_the_log_is_that_of_evaluate(evaluated: Path) -> None:
    from mqmha_jax.runs.log_lines import read_log

    metrics = json.loads((evaluated / "metrics.json").read_text())
    logged = [line["eer"] for line in read_log(evaluated.parent) if line["kind"] == "dev"]
    eer = metrics["lists"]["eval"]["systems"]["cosine"]["metrics"]["EER"]["value"]
    assert eer == pytest.approx(logged[-1], abs=1e-9)


def test_a_threshold_whose_mean_is_gone_decides_nothing(workdir: Path, evaluated: Path) -> None:
    audio = workdir.parent / "audio"
    (workdir / "mean_embedding-8.npz").unlink()
    code, text = invoke("verify", workdir, audio / "s9/0.wav", audio / "s9/1.wav")
    assert code == 1
    assert "mean_embedding-8.npz is missing or of another network, and the run's threshold is of scores after" in text
    code, text = invoke("evaluate", workdir, "--step", 8, "--replicates", 20)
    assert code == 0, text
    assert invoke("verify", workdir, audio / "s9/0.wav", audio / "s9/1.wav")[0] == 0


def test_cohort_calibration_and_the_best_step_in_one_go(workdir: Path) -> None:
    train, dev = workdir.parent / "train", workdir.parent / "dev.trials"
    write_trials(dev, make_trials({f"s{s}/{take}": f"s{s}" for s in range(4) for take in range(4)}, per_speaker=20))
    options = ["--as-norm", train, "--top-n", 4, "--calibrate", dev, "--calibrate-data", train, "--quality"]
    options += ["--backend", train, "--lda", 2, "--shrinkage", 0.5, "--plda", "--backend-utterances", 3]
    output = ["--replicates", 20, "--output", workdir / "all"]
    code, text = invoke("evaluate", workdir, *options, *output)
    assert code == 0, text
    assert all(f"\n{name} calibrated" in text for name in ("cosine", "as-norm", "lda-cosine", "plda"))
    settings = json.loads((workdir / "all" / "metrics.json").read_text())["settings"]
    assert settings["back-end"].startswith("LDA to 2, PLDA; fitted on 24 utterances of 8 speakers in ")
    assert (
        "dev.trials: 4 speakers ('s0', 's1', 's2' and more) are also in the training set: its calibration is too sure"
        in text
    )
    assert (workdir / "calibration-8.json").exists()
    code, text = invoke("verify", workdir, workdir.parent / "audio/s9/0.wav", workdir.parent / "audio/s9/0.wav")
    assert code == 0, text
    assert "probability of the same speaker" in text
    (workdir / "calibration-8.json").unlink()
    code, text = invoke("evaluate", workdir, *options, *output, "--strict")
    assert code == 1
    assert "also in the training set" in text
    code, text = invoke("evaluate", workdir, "--step", "best", *output)
    assert code == 0, text


def test_evaluate_straight_from_audio(workdir: Path, evaluated: Path, tmp_path: Path) -> None:
    audio, options = workdir.parent / "audio", ["--replicates", 20, "--output", tmp_path / "out"]
    listed = ["--trials", workdir.parent / "eval.trials"]
    code, text = invoke("evaluate", workdir, "--audio", audio, *listed, "--cohort", audio, "--top-n", 4, *options)
    assert code == 0, text
    assert "4 speakers; below 20 speakers" in text  # the list tells them
    assert "\nas-norm" in text
    assert "<audio" in (tmp_path / "out" / "report.html").read_text()
    metrics, of_shards = (json.loads((path / "metrics.json").read_text()) for path in (tmp_path / "out", evaluated))
    ours, theirs = (m["lists"]["eval"]["systems"]["cosine"]["metrics"]["EER"]["value"] for m in (metrics, of_shards))
    assert ours == pytest.approx(theirs, abs=0.05)
    code, text = invoke("evaluate", workdir, "--audio", tmp_path, *options)  # the run's own list, of its shards
    assert code == 0, text
    assert f"none of 16 recordings in the lists is below {tmp_path}, so the report plays none; there is no" in text
    code, text = invoke("evaluate", workdir, "--audio", tmp_path, *listed, *options)
    assert code == 1
    assert f"None of 16 recordings in the lists is below {tmp_path}" in text
    code, text = invoke("evaluate", workdir, "--max-rejected", 3, *options)
    assert "--channel and --max-rejected belong to the recordings that --audio and --trials embed" in text


def test_evaluate_and_compare_stand_alone(workdir: Path, tmp_path: Path) -> None:
    audio = sorted(path for path in (workdir.parent / "audio").glob("*/*.wav") if path.parent.name in TESTED)
    code, text = invoke("embed", workdir, *audio, "--output", tmp_path / "e.npz")
    assert code == 0, text
    write_trials(tmp_path / "own", make_trials({str(path): path.parent.name for path in audio}))
    (tmp_path / "utt2spk").write_text("".join(f"{path} {path.parent.name}\n" for path in audio))
    shared = ["--trials", tmp_path / "own", "--metadata", tmp_path / "utt2spk", "--replicates", 20]
    code, text = invoke("evaluate", "--embeddings", tmp_path / "e.npz", *shared, "--output", tmp_path / "a")
    assert code == 0, text
    scores = tmp_path / "a" / "scores_own_cosine.txt"
    points = ["--p-target", 0.2, "--costs", 5, 1]
    code, text = invoke("evaluate", "--scores", scores, *shared, *points, "--output", tmp_path / "b")
    assert code == 0, text
    assert "minDCF 0.2 (5:1)" in text
    code, text = invoke("compare", tmp_path / "a", tmp_path / "b" / "metrics.json", "--replicates", 20)
    assert code == 0, text
    assert "B - A = 0.00 [0.00, 0.00]" in text
    code, text = invoke("compare", tmp_path / "a")
    assert code == 1
    assert "A comparison needs two systems" in text


def test_notes_cannot_change_what_a_terminal_shows(tmp_path: Path) -> None:
    """An id may turn the direction of writing, as in names of files in Arabic."""
    (tmp_path / "own").write_text("1 a\u202e b\n1 a\u202e b\n0 a\u202e c\n", encoding="utf-8")
    (tmp_path / "scores").write_text("a\u202e b 0.9\na\u202e c 0.1\n", encoding="utf-8")
    options = ["--scores", tmp_path / "scores", "--trials", tmp_path / "own", "--replicates", 0]
    code, text = invoke("evaluate", *options, "--output", tmp_path / "out")
    assert code == 0, text
    assert "repeat an earlier one, first 'a\\u202e b'" in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["x", "--embeddings", "e.npz"], "WORKDIR and --embeddings were both given"),
        (["--embeddings", "e.npz"], "Without WORKDIR, --output says where"),
        (["--scores", "s", "--output", "o", "--data", "d"], "--data, --step and --save-threshold belong to"),
        (["--scores", "s", "--output", "o", "--trials", "none"], "none: the list cannot be read"),
        (["--output", "o", "--trials", "none"], "Nothing to evaluate: give the WORKDIR of a run, --embeddings or"),
        (["x", "--mean", "m.npz"], "--mean goes with --embeddings and without --no-mean"),
        ([], "Nothing to evaluate: give the WORKDIR of a run, --embeddings or --scores"),
        (["x", "--step", "last"], "'last' is not a step; write its number, such as 3000, or best."),
        (["x", "--lda", "2"], "LDA to 2 must be fitted on utterances of known speakers; give them with --backend"),
    ],
)
def test_evaluate_says_which_options_do_not_go_together(options: list[str], message: str) -> None:
    code, text = invoke("evaluate", *options)
    assert code != 0
    assert message in text


def test_lists_are_made_and_imported(workdir: Path, tmp_path: Path) -> None:
    code, text = invoke("make-trials", workdir.parent / "eval", tmp_path / "own", "--per-speaker", 5)
    assert code == 0, text
    assert "20 target trials of any sessions" in text
    code, text = invoke("make-trials", workdir.parent / "train", tmp_path / "own", "--not-in", workdir)
    assert code == 1
    assert "8 speakers ('s0', 's1', 's2' and more) are also in" in text
    (tmp_path / "official").write_text("1 id10001/a/00001.wav id10001/b/00001.wav\n")
    code, text = invoke("import-trials", "voxceleb", tmp_path / "official", tmp_path / "vox", "--suffix", ".m4a")
    assert code == 0, text
    assert (tmp_path / "vox").read_text() == "1 id10001/a/00001.m4a id10001/b/00001.m4a\n"


def test_every_step_has_a_threshold_of_its_own(workdir: Path) -> None:
    invoke("evaluate", workdir, "--replicates", 0)
    before = (workdir / "threshold-8.json").read_text()
    (workdir / "threshold-4.json").unlink(missing_ok=True)
    pair = [workdir.parent / "audio" / name for name in ("s9/0.wav", "s9/1.wav")]
    code, text = invoke("verify", workdir, *pair, "--step", 4)
    assert f"no threshold is known, run 'mqmha evaluate {workdir} --step 4' for one" in text
    code, text = invoke("evaluate", workdir, "--step", 4, "--replicates", 0, "--output", workdir / "older")
    assert code == 0, text
    assert "'mqmha verify' now uses the threshold" in text
    assert "(list eval, 4 speakers, EER" in text
    assert (workdir / "threshold-8.json").read_text() == before
    saved = json.loads((workdir / "threshold-4.json").read_text())
    code, text = invoke("verify", workdir, *pair, "--step", 4)
    assert f"threshold {saved['value']:.3f}" in text
    code, text = invoke("embed", workdir, pair[0], "--step", 3, "--output", workdir / "e.npz")
    assert code == 1
    assert "No checkpoint of step 3" in text
    code, text = invoke("evaluate", workdir, "--step", 5)
    assert code == 1
    assert "No checkpoint of step 5" in text
    assert "available steps: [4, " in text


def test_another_list_leaves_the_threshold_unless_asked(workdir: Path, tmp_path: Path) -> None:
    invoke("evaluate", workdir, "--replicates", 0)
    kept = workdir / "threshold-8.json"
    before, value = kept.read_text(), json.loads(kept.read_text())["value"]
    write_trials(tmp_path / "other", make_trials({f"s{s}/{take}": f"s{s}" for s in range(3) for take in range(4)}))
    options = ["--data", workdir.parent / "train", "--trials", tmp_path / "other", "--replicates", 0]
    code, text = invoke("evaluate", workdir, *options, "--output", tmp_path / "out")
    assert code == 0, text
    assert kept.read_text() == before
    own = f"{value:.3f} (list eval, 4 speakers, EER"
    assert f"'mqmha verify' still uses the threshold {own}" in text
    assert "--save-threshold replaces it by" in text
    code, text = invoke("evaluate", workdir, *options, "--output", tmp_path / "out", "--save-threshold")
    assert code == 0, text
    assert "'mqmha verify' now uses the threshold" in text
    assert "(list other, 3 speakers, EER" in text
    assert f"before: {own}" in text
    assert json.loads(kept.read_text())["list"] == "other"
    code, text = invoke("evaluate", workdir, "--replicates", 0)
    assert f"now uses the threshold {own}" in text
    kept.unlink()
    code, text = invoke("evaluate", workdir, *options, "--output", tmp_path / "out")
    assert "'mqmha verify' has no threshold at step 8; --save-threshold keeps" in text
    assert not kept.exists()
    code, text = invoke("evaluate", workdir, "--no-mean", "--save-threshold")
    assert code == 1
    assert "--save-threshold does not go with --no-mean" in text


def test_files_of_steps_that_are_gone_are_removed(workdir: Path) -> None:
    for name in ("threshold-3.json", "calibration-3.json", "mean_embedding-3.npz", "threshold.json"):
        (workdir / name).write_text("of an earlier network")
    own = [workdir / name for name in ("threshold_notes.json", "thresholds.json", "mean_embedding-3-kept.npz")]
    for path in own:
        path.write_text("the user's own")
    code, text = invoke("evaluate", workdir, "--replicates", 0)
    assert code == 0, text
    assert not [path.name for path in workdir.iterdir() if path.stem.endswith("-3") or path.name == "threshold.json"]
    for path in own:
        path.unlink()  # still there
    assert (workdir / "mean_embedding-8.npz").exists()


def test_a_run_that_cannot_be_written_is_evaluated_elsewhere(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(workdir, run)
    for path in run.glob("*-8.*"):
        path.unlink()
    replace, files = os.replace, sorted(run.rglob("*"))

    def refuse_in_run(source: str | Path, target: str | Path) -> None:
        if Path(target).is_relative_to(run):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse_in_run)
    code, text = invoke("evaluate", run, "--replicates", 0, "--output", tmp_path / "out")
    assert code == 0, text
    assert "The mean embedding is not kept: " in text
    assert "Threshold and calibration are not kept for 'mqmha verify': " in text
    assert (tmp_path / "out" / "metrics.json").exists()
    assert sorted(run.rglob("*")) == files
    code, text = invoke("evaluate", run, "--replicates", 0, "--output", tmp_path / "out", "--save-threshold")
    assert code == 1
    assert "Read-only file system" in text


def test_a_small_cohort_is_told_before_the_work(workdir: Path, tmp_path: Path) -> None:
    output = ["--replicates", 0, "--output", tmp_path / "out"]
    code, text = invoke("evaluate", workdir, "--as-norm", workdir.parent / "train", *output)
    assert code == 0, text
    assert "has 8 members; all of them are used (--top-n 300)." in text
    settings = json.loads((tmp_path / "out" / "metrics.json").read_text())["settings"]
    assert settings["as-norm"].endswith("8 members, the 8 nearest count")
    code, text = invoke("evaluate", workdir, "--top-n", 1)
    assert code == 2
    assert "1 is not in the range x>=2" in text


def test_output_is_checked_before_the_work(workdir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = invoke("evaluate", workdir, "--trials", "none", "--output", tmp_path / "file")
    assert code == 1
    assert "file is a file; the output is a directory" in text
    code, text = invoke("evaluate", tmp_path / "no_run")
    assert code == 1
    assert "no_run is not a work directory" in text
    assert not (tmp_path / "no_run").exists()


def test_evaluate_refuses_a_list_over_other_utterances(workdir: Path) -> None:
    code, text = invoke("evaluate", workdir, "--data", workdir.parent / "train")
    assert code == 1
    assert "unknown" in text


def test_outputs_of_embed_are_checked_before_the_work(workdir: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    code, text = invoke("embed", workdir, tmp_path / "none.wav", "--output", tmp_path / "taken")
    assert code == 1
    assert "taken is a directory; give the path of a file" in text
    assert "none.wav" not in text


def test_embed_then_verify(workdir: Path) -> None:
    invoke("evaluate", workdir, "--replicates", 0)
    audio = workdir.parent / "audio"
    output = workdir / "embeddings.npz"
    code, text = invoke("embed", workdir, audio / "s8/0.wav", audio / "s9/0.wav", "--output", output)
    assert code == 0, text
    with np.load(output, allow_pickle=False) as kept:
        assert kept["vectors"].shape == (2, 6)
        assert kept["ids"].tolist() == [str(audio / "s8/0.wav"), str(audio / "s9/0.wav")]
    code, text = invoke("verify", workdir, audio / "s9/0.wav", audio / "s9/0.wav")
    assert code == 0
    assert text.startswith("same speaker (score 1.000")


def test_training_needs_a_fresh_directory_or_the_same_configuration(workdir: Path) -> None:
    path = workdir.parent / "config.json"
    code, text = invoke("train", path, "--workdir", workdir, "--quiet", "loss.scale=20")
    assert code == 1
    assert "loss.scale: 10.0 -> 20.0" in text
