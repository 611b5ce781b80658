"""The API answers like the library, and each recording that cannot be used with a sentence."""

from collections.abc import Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.serve.app import make_app
from mqmha_jax.serve.limits import Limits
from mqmha_jax.store.speaker_store import SpeakerStore
from tests.support.serving import to_wav
from tests.support.tiny_audio import encode
from tests.support.voices import RATE_HZ, make_encoder, voice

LOW, HIGH = voice(1.5, 100), voice(1.5, 220)
LIMITS = Limits(max_bytes=3 << 20, max_seconds=30.0)


@pytest.fixture(scope="module")
def encoder():
    calibration = Calibration(("score",), (200.0,), -195.0, 0.5)
    return make_encoder(threshold=0.975, calibration=calibration, name="tiny")


@pytest.fixture(scope="module")
def client(encoder) -> Iterator[TestClient]:
    app = make_app(encoder, limits=LIMITS, warm=False)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


def send(client, path, **recordings):
    files = {name: (f"{name}.wav", content) for name, content in recordings.items()}
    return client.post(f"/api/{path}", files=files)


def test_an_embedding_is_that_of_the_library(client, encoder):
    answer = send(client, "embed", recording=to_wav(LOW))
    assert answer.status_code == 200
    np.testing.assert_allclose(answer.json()["embedding"], encoder.embed(LOW).vectors[0], rtol=1e-5)
    heard = answer.json()["recording"]
    assert heard["name"] == "recording.wav"
    assert heard["duration_s"] == 1.5
    assert heard["speech_s"] > 1
    assert heard["concerns"] == []


def test_a_comparison_is_that_of_the_library(client, encoder):
    for other in (voice(1.2, 100, seed=1), HIGH):
        answer = send(client, "verify", first=to_wav(LOW), second=to_wav(other)).json()
        expected = encoder.verify(LOW, other)
        assert answer["verdict"] == expected.verdict
        assert answer["score"] == pytest.approx(expected.score, abs=1e-6)
        assert answer["probability"] == pytest.approx(expected.probability, abs=1e-4)
        assert answer["threshold"] == 0.975
        assert [heard["name"] for heard in answer["recordings"]] == ["first.wav", "second.wav"]


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(RATE_HZ, np.float32), "no speech, 1.0 s of silence in second.wav"),
        (LOW[: RATE_HZ // 20], "no speech in 0.1 s of sound in second.wav"),
        (0.1 * np.random.default_rng(0).standard_normal(2 * RATE_HZ), "no speech in 2.0 s of sound in second.wav"),
    ],
    ids=["silence", "0.05 s", "noise"],
)
def test_too_little_speech_is_unsure_with_the_reason(client, samples, reason):
    answer = send(client, "verify", first=to_wav(LOW), second=to_wav(samples)).json()
    assert answer["verdict"] == "unsure"
    assert answer["probability"] is None
    assert answer["reason"] == reason
    assert send(client, "embed", recording=to_wav(samples)).json()["recording"]["concerns"]


def test_every_kind_of_audio_is_heard(client, tmp_path):
    stereo = np.stack([LOW, LOW], axis=1)
    telephone = LOW[::2]
    encode(tmp_path / "browser.webm", LOW)  # what a MediaRecorder gives
    files = {
        "stereo": to_wav(stereo),
        "8 kHz": to_wav(telephone, RATE_HZ // 2),
        "flac": to_wav(LOW, format="FLAC", subtype="PCM_16"),
        "webm": (tmp_path / "browser.webm").read_bytes(),
    }
    for kind, content in files.items():
        answer = send(client, "embed", recording=content)
        assert answer.status_code == 200, kind
        assert answer.json()["recording"]["duration_s"] == pytest.approx(1.5, abs=0.05), kind


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (to_wav(np.where(np.arange(RATE_HZ) == 80, np.nan, LOW[:RATE_HZ])), 422, "1 of 16000 samples are NaN or inf"),
        (b"", 422, "recording.wav: there is no audio (0 bytes)."),
        (b"not a sound" * 99, 422, "recording.wav: cannot be decoded as audio"),
        (to_wav(LOW)[:5000], 422, "recording.wav: is truncated"),
        (to_wav(LOW[:100]), 422, "recording.wav: The audio is 6.25 ms long"),
        (
            to_wav(np.zeros(3 * 3600 * 8000, np.int16), 8000, format="FLAC", subtype="PCM_16"),
            413,
            "recording.wav: is longer than 30 s, the limit of this server; send a part of it.",
        ),
    ],
    ids=["NaN", "empty", "text", "cut off", "6 ms", "3 hours"],
)
def test_a_recording_that_cannot_be_used_is_a_sentence(client, content, status, sentence):
    answer = send(client, "embed", recording=content)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_names_of_clients_are_only_words(client):
    answer = client.post("/api/embed", files={"recording": ("../../etc/pass\u202ewd.wav", b"x")})
    assert answer.json()["error"].startswith("pass\\u202ewd.wav: cannot be decoded")


def test_a_missing_recording_is_named(client):
    answer = send(client, "verify", first=to_wav(LOW))
    assert answer.status_code == 422
    assert answer.json()["error"] == "The request does not fit; second: Field required. /api/docs describes it."


def test_an_unknown_address_is_an_answer_in_json(client):
    answer = client.get("/api/nothing")
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})
    answer = client.get("/api/embed")
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    answer = client.post("/api/embed", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert (answer.status_code, answer.json()) == (400, {"error": "Missing boundary in multipart."})


def test_a_fault_of_the_server_shows_no_traceback(client, monkeypatch, encoder):
    monkeypatch.setattr(encoder, "observe", lambda *_, **__: 1 / 0)
    answer = send(client, "embed", recording=to_wav(LOW))
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("The server failed on this request")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_status_describes_network_and_limits(client):
    status = client.get("/api/status").json()
    assert status["network"] == "tiny"
    assert status["embedding_dim"] == 6
    assert status["calibrated"]
    assert (status["max_bytes"], status["max_seconds"]) == (3 << 20, 30)


def test_the_page_of_the_api_names_every_route_and_field(client):
    page, schema = client.get("/api/docs").text, client.get("/api/openapi.json").json()
    for path, operations in schema["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in page
    for name, model in schema["components"]["schemas"].items():
        if "Validation" not in name:
            assert all(f"<code>{field}</code>" in page for field in model["properties"]), name


def test_the_pages_load_nothing_from_elsewhere_and_hold_no_scripts(client):
    for path in ("/", "/api/docs"):
        page = client.get(path)
        assert page.headers["Content-Type"].startswith("text/html")
        assert "'unsafe-inline'" not in page.headers["Content-Security-Policy"]
        assert "http://" not in page.text.replace("http://localhost", "")
        assert "https://" not in page.text
        assert "<style" not in page.text
        assert " style=" not in page.text
        assert "<script>" not in page.text
    for name in ("style.css", "page.js", "capture.js", "icon.svg"):
        assert client.get(f"/{name}").status_code == 200
    assert client.get("/page.html").status_code == 404


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Iterator[TestClient]:
    """A server whose network puts the two voices opposite each other."""
    every = make_encoder().embed([LOW, HIGH]).vectors
    encoder = make_encoder(mean=every.mean(axis=0), threshold=0.5)
    store = SpeakerStore.create(tmp_path_factory.mktemp("people") / "store", encoder)
    with TestClient(make_app(encoder, store, limits=LIMITS, warm=False), "http://localhost") as client:
        yield client


def enrol(client, name, *contents):
    files = [("recordings", ("a.wav", content)) for content in contents]
    return client.post("/api/speakers", data={"name": name}, files=files)


def test_an_enrolled_speaker_is_identified_until_removed(people):
    assert people.get("/api/speakers").json() == []
    assert send(people, "identify", recording=to_wav(LOW)).json()["verdict"] == "nobody"
    ada = enrol(people, "Ada / ../Ä?&", to_wav(LOW), to_wav(voice(1.2, 100, seed=1)))  # two files of one name
    assert ada.status_code == 200
    assert ada.json()["num_recordings"] == 2
    assert people.get("/api/status").json()["num_speakers"] == 1
    assert [speaker["name"] for speaker in people.get("/api/speakers?limit=1").json()] == ["Ada / ../Ä?&"]
    assert people.get("/api/speakers?limit=0").status_code == 422

    found = send(people, "identify", recording=to_wav(voice(1.3, 100, seed=2))).json()
    assert found["verdict"] == "match"
    assert found["candidates"][0]["name"] == "Ada / ../Ä?&"
    assert found["recording"]["name"] == "recording.wav"
    assert send(people, "identify", recording=to_wav(HIGH)).json()["verdict"] == "nobody"
    assert send(people, "identify", recording=to_wav(0 * LOW)).json()["verdict"] == "unsure"

    assert people.delete("/api/speakers", params={"name": "Ada / ../Ä?&"}).status_code == 204
    assert people.get("/api/speakers").json() == []


def test_the_same_recording_counts_once_with_a_warning(people):
    low, other = to_wav(LOW), to_wav(voice(1.2, 100, seed=1))  # once: the file holds the second when it was written
    answer = enrol(people, "Ada", low, other, low).json()
    assert answer["num_recordings"] == 2
    assert answer["warnings"] == ["a.wav: the request holds this recording more than once; it counts once."]
    answer = enrol(people, "Ada", low).json()
    assert answer["num_recordings"] == 2
    assert answer["warnings"] == ["a.wav: Ada has this recording already, as a.wav; it counts once."]
    people.delete("/api/speakers", params={"name": "Ada"})


def test_one_recording_that_cannot_be_used_enrols_nobody(people):
    answer = enrol(people, "Ben", to_wav(HIGH), to_wav(0 * HIGH))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("a.wav: no speech, 1.5 s of silence; a recording to enrol needs")
    assert people.get("/api/speakers").json() == []


@pytest.mark.parametrize("name", ["", " ", "\n", "a\x00b"])
def test_a_name_that_cannot_be_one_is_refused(people, name):
    assert enrol(people, name, to_wav(HIGH)).status_code == 422
    assert people.get("/api/speakers").json() == []


def test_a_stranger_cannot_be_removed(people):
    answer = people.delete("/api/speakers", params={"name": "Nobody"})
    assert answer.status_code == 422
    assert "Nobody" in answer.json()["error"]


def test_without_a_store_nobody_is_enrolled(client):
    assert client.get("/api/speakers").status_code == 404
    assert client.get("/api/status").json()["num_speakers"] is None
    assert "Enrol" not in client.get("/").text
