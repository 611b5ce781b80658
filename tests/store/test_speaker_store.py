"""Speakers are enrolled, found, verified and removed; what is no speech, and who is not enrolled, never matches."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mqmha_jax
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.store.speaker_store import SpeakerStore
from tests.support.voices import CONFIG, RATE_HZ, make_encoder, make_variables, voice

PITCHES = {"anna": 220, "ben": 100, "carla": 160}


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    """The mean of the voices is subtracted, without which all of them have cosine 1 for an untrained network."""
    mean = make_encoder().embed([voice(1, pitch) for pitch in PITCHES.values()]).vectors.mean(axis=0)
    return make_encoder(mean=mean, threshold=0.5)


@pytest.fixture
def store(encoder: SpeakerEncoder, tmp_path: Path) -> SpeakerStore:
    store = SpeakerStore.create(tmp_path / "people", encoder)
    for name, pitch in PITCHES.items():
        store.enrol(name, {f"{name}-{seed}": voice(1, pitch, seed) for seed in range(2)})
    return store


def test_the_enrolled_are_found(store: SpeakerStore) -> None:
    for name, pitch in PITCHES.items():
        found = store.identify(voice(1, pitch, seed=9), top_n=2)
        assert (found.verdict, found.speaker, len(found.matches)) == ("match", name, 2)
        assert found.matches[0].score > 0.7 > found.matches[1].score
        assert found.sentence() == f"{name} (score {found.matches[0].score:.3f}, threshold 0.500)"
        assert store.verify(name, voice(1, pitch, seed=9)).verdict == "same"
    assert store.verify("anna", voice(1, PITCHES["ben"])).verdict == "different"
    assert len(store.identify(voice(1, 100)).matches) == 3


def test_scores_are_the_mean_of_the_cosines_with_the_recordings(store: SpeakerStore, encoder: SpeakerEncoder) -> None:
    waveforms = [voice(1, 140, seed=5), *(voice(1, 220, seed) for seed in range(2))]
    vectors = encoder.embed(waveforms).vectors.astype(np.float64) - encoder.mean
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert store.verify("anna", waveforms[0]).score == pytest.approx(np.mean(units[1:] @ units[0]), abs=1e-5)
    (anna,) = [match for match in store.identify(waveforms[0]).matches if match.speaker == "anna"]
    assert anna.score == pytest.approx(store.verify("anna", waveforms[0]).score, abs=1e-6)


def test_one_recording_scores_as_verify_does(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    store = SpeakerStore.create(tmp_path / "one", encoder)
    one, other = voice(1, 220), voice(0.8, 140)
    store.enrol("anna", one)
    expected = encoder.verify(one, other)
    found = store.verify("anna", other)
    assert found[1:4] == expected[1:4]
    assert found.score == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.parametrize("features", [("score",), ("score", "log_norm_min", "log_norm_max", "log_duration_min")])
def test_a_calibration_gives_probabilities(encoder: SpeakerEncoder, tmp_path: Path, features: tuple[str, ...]) -> None:
    """Of one enrolled speaker, those of ``SpeakerEncoder.verify``; of several, Bayes' rule."""
    calibration = Calibration(features, (6.0, 0.3, -0.2, 0.1)[: len(features)], -3.0, 0.05)
    calibrated = SpeakerEncoder(CONFIG, make_variables(), mean=encoder.mean, calibration=calibration, threshold=0.9)
    store = SpeakerStore.create(tmp_path / "people", calibrated)
    heard = voice(1.3, 200, seed=4)
    odds = {}
    for name, pitch in PITCHES.items():
        store.enrol(name, voice(1, pitch))
        probability = calibrated.verify(voice(1, pitch), heard).probability
        assert store.verify(name, heard).probability == pytest.approx(probability, abs=1e-4)
        odds[name] = probability / (1 - probability)
    found = store.identify(heard, prior=0.6)
    weights = {name: 0.6 / 3 * odds[name] for name in PITCHES} | {"nobody": 0.4}
    assert found.nobody == pytest.approx(0.4 / sum(weights.values()), abs=1e-4)
    for match in found.matches:
        assert match.probability == pytest.approx(weights[match.speaker] / sum(weights.values()), abs=1e-4)
    assert [m.probability for m in found.matches] == sorted((m.probability for m in found.matches), reverse=True)
    assert sum(m.probability for m in found.matches) + found.nobody == pytest.approx(1)


def test_the_calibration_decides_between_match_nobody_and_unsure(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    verdicts = {}
    for number, offset in enumerate((9.0, 0.0, -9.0)):
        calibrated = SpeakerEncoder(
            CONFIG, make_variables(), mean=encoder.mean, calibration=Calibration(("score",), (0.0,), offset, 0.05)
        )
        store = SpeakerStore.create(tmp_path / str(number), calibrated)
        store.enrol("anna", voice(1, 220))
        found = store.identify(voice(1, 100))
        verdicts[found.verdict] = found.sentence()
        assert found.threshold is None
    assert list(verdicts) == ["match", "unsure", "nobody"]
    assert verdicts["unsure"] == "unsure: anna 50.0%, nobody enrolled 50.0%"
    assert verdicts["match"].startswith("anna (probability 100.0%, score ")
    assert verdicts["nobody"].startswith("nobody enrolled (probability 100.0%, nearest to anna, score ")


def test_nobody_is_found_below_the_threshold(store: SpeakerStore) -> None:
    found = store.identify(voice(1, 350), threshold=0.999)
    assert (found.verdict, found.speaker) == ("nobody", None)
    assert found.sentence().startswith(f"nobody enrolled (nearest to {found.matches[0].speaker}, score ")


def test_without_threshold_there_is_no_answer(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    store = SpeakerStore.create(tmp_path / "people", make_encoder(mean=encoder.mean))
    assert store.identify(voice(1, 220)).sentence() == "nobody enrolled"
    store.enrol("anna", voice(1, 220))
    found = store.identify(voice(1, 220))
    assert found.verdict is None
    assert found.sentence() == "nearest to anna (score 1.000); no threshold is known, 'mqmha evaluate' finds one"


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.zeros(RATE_HZ, np.float32), "no speech, 1.0 s of silence"),
        (0.1 * np.random.default_rng(0).normal(size=RATE_HZ).astype(np.float32), "no speech in 1.0 s of sound"),
        (np.concatenate([np.zeros(8000, np.float32), voice(0.3, 220)]), r"0.\d s of speech"),
    ],
)
def test_silence_noise_and_a_moment_of_speech_never_match(
    store: SpeakerStore, waveform: np.ndarray, reason: str
) -> None:
    with pytest.raises(UserError, match=f"x: {reason}; a recording to enrol needs 0.5 s at least"):
        store.enrol("dora", {"x": waveform})
    found = store.identify(waveform, threshold=-1.0)
    assert (found.verdict, found.matches) == ("unsure", ())
    assert found.sentence().startswith("unsure: ")
    assert "dora" not in store
    verified = store.verify("anna", waveform, threshold=-1.0)
    assert verified.verdict == "unsure"
    assert verified.sentence().endswith("in waveform 0")


def test_recordings_that_cannot_be_used_are_left_out(store: SpeakerStore, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", voice(1, 300), RATE_HZ)
    errors: list[UserError] = []
    dora = store.enrol("dora", [tmp_path / "good.wav", tmp_path / "missing.wav"], on_error=errors.append)
    assert dora.recordings == (str(tmp_path / "good.wav"),)
    assert [str(error) for error in errors] == [f"{tmp_path / 'missing.wav'}: no such file."]
    with pytest.raises(UserError, match="'emil' is not enrolled: 1 recording given, none can be used"):
        store.enrol("emil", tmp_path / "missing.wav", on_error=errors.append)


def test_the_same_recording_counts_once_and_others_are_added(store: SpeakerStore) -> None:
    before = store.verify("anna", voice(1, 220)).score
    said: list[str] = []
    given = {"anna-1": voice(2, 100), "anna-2": voice(1, 220, 2), "anna-3": voice(1, 220, 0)}
    anna = store.enrol("anna", given, on_warning=said.append)
    assert anna.recordings == ("anna-0", "anna-1", "anna-1 (2)", "anna-2")
    assert said == [
        "anna-1: anna has another recording of this name; this one is added as 'anna-1 (2)'.",
        "anna-3: anna has this recording already, as anna-0; it counts once.",
    ]
    assert store.verify("anna", voice(1, 220)).score < before
    assert len(store) == 3
    waveform = voice(1, 300)
    assert store.enrol("dora", waveform).recordings == store.enrol("dora", waveform).recordings


def test_a_speaker_whom_another_process_removes_meanwhile_was_enrolled(
    store: SpeakerStore, encoder: SpeakerEncoder
) -> None:
    """``on_warning`` is called when the lock of the store is free again, so others may change it there."""
    elsewhere = SpeakerStore.open(store.path, encoder)
    recordings = {"old": voice(1, 220), "new": voice(1, 230)}
    enrolled = store.enrol("anna", recordings, on_warning=lambda _: elsewhere.remove("anna"))
    assert (enrolled.name, enrolled.recordings) == ("anna", ("anna-0", "anna-1", "new"))
    assert "anna" not in store


def test_speakers_and_recordings_are_removed(store: SpeakerStore) -> None:
    store.enrol("anna", {"other": voice(2, 100)})
    store.remove("anna", ["other"])
    assert store.verify("anna", voice(1, 220)).score > 0.7
    store.remove("ben")
    assert [speaker.name for speaker in store.list_speakers()] == ["anna", "carla"]
    assert store.identify(voice(1, 160)).speaker == "carla"
    with pytest.raises(UserError, match="'anna' is not enrolled with 'x', but with anna-0, anna-1"):
        store.remove("anna", ["x"])
    with pytest.raises(UserError, match="Nobody called 'ben' is enrolled"):
        store.verify("ben", voice(1, 100))
    store.remove("anna")
    store.remove("carla")
    assert len(store) == 0
    assert store.identify(voice(1, 160)).verdict == "nobody"


def test_stores_merge(store: SpeakerStore, encoder: SpeakerEncoder, tmp_path: Path) -> None:
    other = SpeakerStore.create(tmp_path / "other", encoder)
    other.enrol("dora", {"d": voice(1, 300)})
    other.enrol("ben", {"ben-1": voice(1, 100, 7), "ben-7": voice(1, 100, 8)})
    store.merge(other)
    recordings = {speaker.name: speaker.recordings for speaker in store.list_speakers()}
    assert recordings["ben"] == ("ben-0", "ben-1", "ben-1 (2)", "ben-7")
    store.merge(other)
    assert {speaker.name: speaker.recordings for speaker in store.list_speakers()} == recordings
    assert recordings["dora"] == ("d",)
    assert store.identify(voice(1, 300)).speaker == "dora"
    assert len(other) == 2
    with pytest.raises(UserError, match="cannot be merged with itself"):
        store.merge(store)
    SpeakerStore.create(tmp_path / "foreign", make_encoder(1)).enrol("emil", voice(1, 300))
    with pytest.raises(UserError, match=r"foreign are of different networks: other parameters\. Enrol the rec"):
        store.merge(tmp_path / "foreign")


def test_another_network_is_refused(store: SpeakerStore) -> None:
    with pytest.raises(UserError, match=r"enrolled with the network tdnn \+ tstp, 6 dimensions; .* other parameters"):
        SpeakerStore.open(store.path, make_encoder(1))
    fbank = dataclasses.replace(CONFIG.fbank, low_hz=30.0)
    features = SpeakerEncoder(dataclasses.replace(CONFIG, fbank=fbank), make_variables())
    with pytest.raises(UserError, match=r"other features \(fbank.low_hz: 20.0 -> 30.0\)"):
        SpeakerStore.open(store.path, features)
    with pytest.raises(UserError, match="names no run to load its network from"):
        SpeakerStore.open(store.path)


def test_names_that_cannot_be_listed_are_refused(store: SpeakerStore) -> None:
    for name, message in (("", "name is empty"), (" ", "name ' ' is only white space"), ("a\nb", "has the character")):
        with pytest.raises(UserError, match=message):
            store.enrol(name, voice(1, 300))
    store.enrol("Zoe\u0301", voice(1, 300))
    with pytest.raises(UserError, match="Two speakers are spelled differently and look the same"):
        store.enrol("Zo\u00e9", voice(1, 300))
    store.enrol("Ada L", voice(2, 300))
    for name in ("Ada L ", "Ada  L"):
        with pytest.raises(UserError, match=f"look the same: 'Ada L' and '{name}'"):
            store.enrol(name, voice(3, 300))
    with pytest.raises(UserError, match=r"Nobody called 'Zo\u00e9' is enrolled.*looks the same"):
        store.verify("Zo\u00e9", voice(1, 300))


def test_a_store_with_two_names_that_look_the_same_stays_in_use(
    store: SpeakerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions enrolled names that differ in blanks."""
    store.enrol("Ada", voice(1, 300))
    with monkeypatch.context() as patch:
        patch.setattr("mqmha_jax.store.roster.check_spellings", lambda *_, **__: None)
        store.enrol("Ada ", voice(2, 300))
    store.enrol("Ada ", voice(3, 300))
    store.enrol("Bea", voice(4, 300))
    store.remove("Ada ")
    assert "Ada" in store


def test_whoever_creates_a_store_second_opens_it(
    encoder: SpeakerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process is quicker between the look at the directory and its creation, or during the creation."""
    create = SpeakerStore.create
    path = tmp_path / "people"

    def be_slower(path: Path, encoder: SpeakerEncoder) -> SpeakerStore:
        create(path, encoder).enrol("anna", {"a": voice(1, 220)})
        return create(path, encoder)

    monkeypatch.setattr(SpeakerStore, "create", be_slower)
    opened = SpeakerStore.open_or_create(path, encoder)
    opened.enrol("ben", {"b": voice(1, 100)})
    assert [speaker.name for speaker in opened.list_speakers()] == ["anna", "ben"]
    with pytest.raises(UserError, match="people exists and is a store already; open it"):
        create(path, encoder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"other exists and is no store\. Give a new directory"):
        SpeakerStore.open_or_create(tmp_path / "other", encoder)


def test_a_store_begins_with_something_to_add(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    path = tmp_path / "people"
    begun = SpeakerStore.open_or_begin(path, encoder)
    with pytest.raises(UserError, match="no speech"):
        begun.enrol("anna", np.zeros(RATE_HZ, np.float32))
    assert not path.exists()
    SpeakerStore.open_or_begin(path, encoder).enrol("ben", voice(1, 100))  # another process is quicker
    for name in ("anna", "carla"):
        begun.enrol(name, voice(1, 220))
    assert [speaker.name for speaker in begun.list_speakers()] == ["ben", "anna", "carla"]
    assert len(SpeakerStore.open_or_begin(path, encoder)) == 3
    with pytest.raises(UserError, match="other parameters"):
        SpeakerStore.open_or_begin(path, make_encoder(1))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(UserError, match=r"other exists and is no store\. Give a new directory"):
        SpeakerStore.open_or_begin(tmp_path / "other", encoder)


def test_what_cannot_be_added_is_refused_before_the_work(store: SpeakerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object, **options: object) -> None:
        raise AssertionError(options)

    monkeypatch.setattr(SpeakerEncoder, "observe", work)
    one = voice(1, 300)
    for name, recordings, message in (
        ("", one, "The speaker's name is empty"),
        ("a\nb", one, "has the character"),
        ("anna", {"": one}, "anna: the recording's name is empty"),
    ):
        with pytest.raises(UserError, match=message):
            store.enrol(name, recordings)
    monkeypatch.setattr("mqmha_jax.atomic.os.access", lambda *_: False)
    with pytest.raises(UserError, match=r"store\.json is write-protected"):
        store.enrol("anna", one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_n": 0}, "top_n is 0; valid: an integer above 0"),
        ({"prior": 0.0}, "prior is 0.0"),
        ({"confidence": 1.0}, "confidence is 1.0"),
    ],
)
def test_options_out_of_range_are_refused(store: SpeakerStore, options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        store.identify(voice(1, 100), **options)


def test_results_print_and_are_json(store: SpeakerStore) -> None:
    found = store.identify(voice(1, 220), name="call", top_n=2)
    first, second = found.matches
    assert repr(found).splitlines()[1:] == [
        f"  {first.speaker:5}  score {first.score:6.3f}",
        f"  {second.speaker:5}  score {second.score:6.3f}>",
    ]
    assert json.loads(json.dumps(found.to_dict()))["matches"][0]["speaker"] == "anna"
    assert "<td>anna</td>" in found._repr_html_()
    assert repr(store) == f"<SpeakerStore {store.path}: 3 speakers, 6 recordings; tdnn + tstp, 6 dimensions>"
    (anna, *_) = store.list_speakers()
    assert anna.sentence().startswith("anna: 2 recordings, ")
    assert mqmha_jax.SpeakerStore is SpeakerStore
