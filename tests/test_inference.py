"""A network as a tool: files and waveforms in, embeddings and decisions out; what cannot be used is named."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from mqmha_jax.atomic import write_json
from mqmha_jax.config_io import to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings import recordings
from mqmha_jax.evaluation.embeddings.training_mean import save_mean
from mqmha_jax.evaluation.metrics.measure_list import Scores, evaluate_list
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.evaluation.scoring.decisions import KeptCalibration, Threshold, save_decision
from mqmha_jax.features.mixdown import LARGEST_SAMPLE
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs import load_network
from mqmha_jax.types import Trials
from tests.support.voices import CONFIG, RATE_HZ, voice


@pytest.fixture(scope="module")
def variables():
    net = build_speaker_net(CONFIG.model)
    return net.init(jax.random.key(0), jnp.zeros((1, 8, 20)), jnp.ones((1, 8), bool), train=False)


@pytest.fixture(scope="module")
def encoder(variables):
    return SpeakerEncoder(CONFIG, variables)


@pytest.fixture
def wav(tmp_path):
    def write(name, waveform, rate_hz=RATE_HZ):
        path = tmp_path / name
        soundfile.write(path, waveform, rate_hz, subtype="FLOAT")
        return path

    return write


def test_files_and_waveforms_give_the_same_embeddings(encoder, wav):
    low, high = voice(0.7, 100), voice(0.4, 220)
    path = wav("low.wav", low)
    embeddings = encoder.embed([path, high, low])
    assert embeddings.ids == (str(path), "waveform 1", "waveform 2")
    assert embeddings.vectors.shape == (3, 6)
    np.testing.assert_allclose(embeddings.vectors[0], embeddings.vectors[2], rtol=1e-5, atol=1e-6)
    assert np.abs(embeddings.vectors[0] - embeddings.vectors[1]).max() > 1e-3
    np.testing.assert_allclose(encoder.embed(str(path)).vectors[0], embeddings.vectors[0], rtol=1e-4, atol=1e-5)


def test_memory_bound_groups_do_not_show(encoder, monkeypatch):
    waveforms = [voice(0.3 + 0.1 * (i % 3), 90 + 20 * i) for i in range(5)]
    together = encoder.embed(waveforms)
    monkeypatch.setattr(recordings, "FRAMES_AT_ONCE", 60)  # one to two of these utterances at a time
    in_groups = encoder.embed(waveforms)
    assert in_groups.ids == together.ids
    np.testing.assert_allclose(in_groups.vectors, together.vectors, rtol=1e-4, atol=1e-5)


def test_few_recordings_go_one_by_one_and_give_the_same(encoder, monkeypatch):
    waveforms = [voice(0.3 + 0.2 * i, 90 + 20 * i) for i in range(3)]
    one_by_one = encoder.embed(waveforms)
    monkeypatch.setattr(recordings, "ONE_BY_ONE", 2)
    np.testing.assert_allclose(encoder.embed(waveforms).vectors, one_by_one.vectors, rtol=1e-4, atol=1e-5)


def test_broken_recordings_are_refused_or_left_out(encoder, wav, tmp_path):
    good, short = wav("good.wav", voice(0.3, 100)), wav("short.wav", voice(0.02, 100))
    missing = tmp_path / "missing.wav"
    with pytest.raises(UserError, match=r"short\.wav.*short"):
        encoder.embed([good, short])
    errors = []
    embeddings = encoder.embed([missing, good, short], on_error=errors.append)
    assert embeddings.ids == (str(good),)
    assert ["missing.wav" in str(errors[0]), "short.wav" in str(errors[1]), len(errors)] == [True, True, 2]
    with pytest.raises(UserError, match="1 recording given, none can be used"):
        encoder.embed([missing], on_error=errors.append)
    with pytest.raises(UserError, match="0 recordings given, none can be used"):
        encoder.embed([])


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros((2, 8000), np.float32), r"waveform 0: an array of shape \(2, 8000\) .*valid: one channel \[n\]"),
        (np.zeros(8000, np.int16), "type int16; valid: one channel .* floating-point samples"),
        (np.array([0.0, np.nan] * 4000, np.float32), "4000 samples are not finite"),
        (np.full(8000, 1.01 * LARGEST_SAMPLE, np.float32), "samples reach 16.16 where full scale is 1"),
        (np.zeros(0, np.float32), "waveform 0: .*"),
    ],
)
def test_arrays_that_are_no_waveforms_are_refused(encoder, waveform, message):
    with pytest.raises(UserError, match=message):
        encoder.embed(waveform)


def test_verify_scores_and_decides_by_the_threshold(variables):
    low, high = voice(0.5, 100), voice(0.5, 220)
    undecided = SpeakerEncoder(CONFIG, variables).verify(low, high)
    one, other = SpeakerEncoder(CONFIG, variables).embed([low, high]).vectors.astype(np.float64)
    assert undecided.score == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-6)
    assert undecided[:5] == (undecided.score, None, None, None, "")
    assert undecided.same is None
    assert undecided.sentence(Path("run")).endswith("no threshold is known, run 'mqmha evaluate run' for one")
    for threshold, same in ((undecided.score - 0.01, True), (undecided.score, True), (undecided.score + 0.01, False)):
        decided = SpeakerEncoder(CONFIG, variables, threshold=threshold).verify(low, high)
        assert decided[:5] == (undecided.score, "same" if same else "different", None, threshold, "")
        assert decided.same is same
    mean = ((one + other) / 2).astype(np.float32)  # seen from their mean, the two are opposite
    assert SpeakerEncoder(CONFIG, variables, mean=mean).verify(low, high).score == pytest.approx(-1, abs=1e-3)
    assert SpeakerEncoder(CONFIG, variables).verify(low, low).score == pytest.approx(1, abs=1e-5)


def test_verify_says_how_sure_a_calibration_makes_it(variables):
    low, high = voice(0.5, 100), voice(0.7, 220)
    score = SpeakerEncoder(CONFIG, variables).verify(low, high).score
    for llr, verdict in ((3.0, "same"), (-3.0, "different"), (1.0, "unsure")):
        calibration = Calibration(("score",), (2.0,), llr - 2 * score, 0.05)
        encoder = SpeakerEncoder(CONFIG, variables, threshold=0.5, calibration=calibration)
        found = encoder.verify(low, high)
        assert (found.verdict, found.threshold) == (verdict, 0.5)
        assert found.probability == pytest.approx(1 / (1 + np.exp(-llr)), abs=1e-5)
        assert found.same == {"same": True, "different": False, "unsure": None}[verdict]
        assert encoder.verify(low, high, confidence=0.5).verdict == ("different" if llr < 0 else "same")
    assert encoder.verify(low, high, prior=0.01).probability == pytest.approx(0.0267, abs=1e-3)
    assert "unsure (probability of the same speaker 73.1%" in found.sentence(Path("run"))
    with pytest.raises(UserError, match=r"confidence is 1\.5"):
        encoder.verify(low, high, confidence=1.5)


def test_verify_measures_quality_as_the_evaluation_did(variables):
    low, high = voice(0.5, 100), voice(0.7, 220)
    one, other = SpeakerEncoder(CONFIG, variables).embed([low, high]).vectors
    names = ("score", "log_norm_min", "log_norm_max", "log_duration_min", "log_duration_max")
    calibration = Calibration(names, (0.0, 0.1, 0.2, 0.3, 0.4), 0.0, 0.05)
    norms = sorted([np.log(np.linalg.norm(one)), np.log(np.linalg.norm(other))])
    llr = np.array([0.1, 0.2, 0.3, 0.4]) @ [*norms, np.log(0.48), np.log(0.68)]  # 48 and 68 frames of 10 ms
    found = SpeakerEncoder(CONFIG, variables, calibration=calibration).verify(low, high)
    assert found.probability == pytest.approx(1 / (1 + np.exp(-llr)), abs=1e-4)
    other = Calibration(("score", "cohort_mean_min"), (1.0, 1.0), 0.0, 0.05)
    with pytest.raises(UserError, match="needs cohort_mean_min, which is not known here"):
        SpeakerEncoder(CONFIG, variables, calibration=other).verify(low, high)


QUIET = np.zeros(RATE_HZ, np.float32)
NOISE = np.random.default_rng(5).normal(0, 0.1, RATE_HZ).astype(np.float32)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (QUIET, QUIET, "no speech, 1.0 s of silence in waveform 0 and no speech, 1.0 s of silence in waveform 1"),
        (NOISE, NOISE, "no speech in 1.0 s of sound in waveform 0"),
        (voice(0.8, 100), voice(0.03, 100), "no speech in 0.0 s of sound in waveform 1"),
        (voice(0.8, 100), voice(0.4, 100), "0.4 s of speech in waveform 1"),
    ],
    ids=["silence", "noise", "30 ms", "0.4 s"],
)
@pytest.mark.parametrize("calibrated", [True, False])
def test_without_speech_verify_is_unsure_and_says_why(variables, first, second, reason, calibrated):
    calibration = Calibration(("score",), (2.0,), 5.0, 0.05) if calibrated else None
    encoder = SpeakerEncoder(CONFIG, variables, threshold=-1.0, calibration=calibration)
    found = encoder.verify(first, second)
    assert (found.verdict, found.same, found.probability) == ("unsure", None, None)
    assert found.reason.startswith(reason)
    assert found.sentence(Path("run")) == f"unsure: {found.reason}"
    assert encoder.verify(voice(0.8, 100), voice(0.8, 100)).verdict == "same"


def test_the_floor_of_speech_is_an_option(variables):
    encoder = SpeakerEncoder(CONFIG, variables, threshold=-1.0)
    assert encoder.verify(voice(0.8, 100), voice(0.4, 100), min_speech_s=0.3).verdict == "same"
    assert encoder.verify(voice(0.8, 100), voice(0.8, 100), min_speech_s=2.0).reason == (
        "0.8 s of speech in waveform 0 and 0.8 s of speech in waveform 1"
    )


def test_embed_warns_about_silence_and_clipping(encoder, caplog):
    said = []
    seconds = np.arange(RATE_HZ) / RATE_HZ
    clipped = np.clip(4 * np.sin(2 * np.pi * 150 * seconds) * np.sin(2 * np.pi * 3 * seconds), -1, 1)
    embeddings = encoder.embed([voice(0.8, 100), QUIET, clipped], on_warning=said.append)
    assert len(embeddings.ids) == 3
    assert said[0] == "waveform 1: no speech, 1.0 s of silence; its embedding says little about the speaker."
    assert said[1].startswith("waveform 2: ")
    assert "of the samples are clipped" in said[1]
    encoder.embed(QUIET)
    assert "waveform 0: no speech, 1.0 s of silence" in caplog.text


def test_one_channel_of_files(encoder, wav):
    low, high = voice(0.8, 100), voice(0.8, 220)
    path = wav("call.wav", np.stack([low, high], axis=1))
    np.testing.assert_allclose(
        encoder.embed(path, channel=1).vectors, encoder.embed(high).vectors, rtol=1e-4, atol=1e-5
    )
    assert encoder.verify(path, path, channel=0).score == pytest.approx(1, abs=1e-5)
    for ask in (encoder.embed, encoder.observe, lambda one, channel: encoder.verify(one, one, channel=channel)):
        with pytest.raises(UserError, match=r"channel is -1; valid: an integer of at least 0"):
            ask(path, channel=-1)
    opposite = wav("opposite.wav", np.stack([low, -low], axis=1))
    with pytest.raises(UserError, match=r"opposite\.wav: its 2 channels cancel each other .* --channel 0"):
        encoder.verify(opposite, path)


def test_results_print_as_a_line(variables):
    encoder = SpeakerEncoder(CONFIG, variables, threshold=0.25, name="runs/a, step 40")
    assert repr(encoder) == (
        "<SpeakerEncoder runs/a, step 40; tdnn + tstp, 6 dimensions; 16 kHz; threshold 0.250, not calibrated>"
    )
    found = encoder.verify(voice(0.8, 100), voice(0.8, 100))
    assert repr(found) == "<Verification: same speaker (score 1.000, threshold 0.250)>"
    assert "●</span> same speaker (score 1.000" in found._repr_html_()
    embeddings = encoder.embed([voice(0.8, 100)] * 5)
    assert repr(embeddings) == "<Embeddings: 5 of size 6: 'waveform 0', 'waveform 1', 'waveform 2', ...>"


def test_load_takes_what_an_evaluation_of_the_same_step_left(variables, tmp_path, monkeypatch):
    trials = Trials(("a",) * 40, ("b",) * 40, np.arange(40) < 20)
    scores = Scores(np.linspace(1, -1, 40).astype(np.float32))
    calibration = Calibration(("score",), (2.0,), 0.5, 0.05)
    mean = np.arange(6, dtype=np.float32)
    evaluated = evaluate_list("dev", trials, {"cosine": scores})
    save_decision(tmp_path, Threshold.of(evaluated), 40)
    save_decision(tmp_path, KeptCalibration(calibration, "other"), 40)
    save_mean(tmp_path, mean, 40)

    write_json(tmp_path / "config.json", to_dict(CONFIG))

    def trained_for(step):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
        network = load_network.LoadedNetwork(CONFIG, build_speaker_net(CONFIG.model), variables, step)
        monkeypatch.setattr(load_network, "load_network", lambda workdir, step: network)
        return SpeakerEncoder.load(tmp_path)

    encoder = trained_for(40)
    assert (encoder.threshold, encoder.calibration) == (evaluated.systems[0].threshold, calibration)
    np.testing.assert_array_equal(encoder.mean, mean)
    assert repr(encoder).startswith(f"<SpeakerEncoder {tmp_path}, step 40; ")
    assert SpeakerEncoder(str(tmp_path)).threshold == encoder.threshold  # a path is loaded
    with pytest.raises(UserError, match=r"takes no variables"):
        SpeakerEncoder(tmp_path, variables)
    with pytest.raises(UserError, match=r"needs variables; SpeakerEncoder.load\(WORKDIR\) loads"):
        SpeakerEncoder(CONFIG)
    later = trained_for(41)
    assert (later.threshold, later.mean, later.calibration) == (None, None, None)
