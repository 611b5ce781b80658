"""Who speaks when: windows are embedded as a recording is read; decisions become segments, RTTM and a picture."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mqmha_jax.errors import UserError
from mqmha_jax.features.fbank import extract_fbank
from mqmha_jax.features.speech_evidence import SpeechEvidence
from mqmha_jax.features.voicing import HOP_MS
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.store.draw_timeline import draw_timeline
from mqmha_jax.store.speaker_store import SpeakerStore
from mqmha_jax.store.timeline import Segment, Timeline
from mqmha_jax.store.windows import embed_windows
from tests.support.voices import RATE_HZ, make_encoder, make_variables, voice


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    mean = make_encoder().embed([voice(1, 220), voice(1, 100)]).vectors.mean(axis=0)
    return make_encoder(mean=mean, threshold=0.3)


@pytest.fixture(scope="module")
def store(encoder: SpeakerEncoder, tmp_path_factory: pytest.TempPathFactory) -> SpeakerStore:
    store = SpeakerStore.create(tmp_path_factory.mktemp("track") / "people", encoder)
    store.enrol("anna b", voice(3, 220))
    store.enrol("ben", voice(3, 100))
    return store


def talk() -> np.ndarray:
    """Six seconds of Anna, two of silence, six of Ben."""
    return np.concatenate([voice(6, 220, 1), np.zeros(2 * RATE_HZ, np.float32), voice(6, 100, 2)])


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("seconds", [0.3, 1.5, 2.3, 60.0, 130.0])
def test_windows_are_those_of_the_whole_recording(encoder: SpeakerEncoder, seconds: float, snip_edges: bool) -> None:
    """However it is cut into blocks; the last window is shorter."""
    spec = dataclasses.replace(encoder.config.fbank, snip_edges=snip_edges)
    encoder = SpeakerEncoder(dataclasses.replace(encoder.config, fbank=spec), make_variables())
    waveform = np.concatenate([voice(min(2, seconds), 150), voice(max(0.01, seconds - 2), 220, 3)])
    blocks = np.split(waveform, [0, 5, len(waveform) // 3])
    windows = embed_windows(encoder, "x", blocks, 1.5, 0.75)
    frames = extract_fbank(waveform, encoder.config.fbank)
    assert (windows.window_s, windows.hop_s) == (1.5, 0.75)
    assert len(windows.vectors) == 1 + max(0, -(-(len(frames) - 150) // 75))
    at_pieces = {63, 64, 127, 128} & {*range(len(windows.vectors))}
    for row in {0, len(windows.vectors) // 2, len(windows.vectors) - 1} | at_pieces:
        part = frames[75 * row : 75 * row + 150]
        padded = np.pad(part, ((0, 150 - len(part)), (0, 0)))[None]
        alone = encoder.embed_frames(padded, np.array([len(part)], np.int32))[0]
        np.testing.assert_allclose(windows.vectors[row], alone, rtol=1e-3, atol=1e-4)
    assert windows.speech_s().shape == (len(windows.vectors),)
    assert windows.speech_s().max() <= 1.5 + HOP_MS / 1000


def test_the_enrolled_are_found_where_they_speak(store: SpeakerStore, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "my talk.wav", talk(), RATE_HZ, subtype="FLOAT")
    found = store.track(tmp_path / "my talk.wav", name="my talk")
    anna, ben = found.segments
    assert (anna.speaker, ben.speaker) == ("anna b", "ben")
    np.testing.assert_allclose([anna.start_s, anna.end_s, ben.start_s, ben.end_s], [0, 6, 8, 14], atol=0.3)
    assert found.text().splitlines()[0].startswith("my talk: ")
    assert found.text().splitlines()[1].startswith(f"{'0:00:00.00':>10} ")
    assert found.rttm().splitlines()[1].startswith("SPEAKER my_talk 1 7.9")
    assert " <NA> <NA> anna_b <NA> <NA>\n" in found.rttm()
    assert found.scores.shape[0] == 2
    same = store.track(talk(), name="my talk")
    assert same.to_dict() == found.to_dict()
    draw_timeline(found, tmp_path / "talk.png")
    assert (tmp_path / "talk.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("window_s", "hop_s"),
    [(1.5, 0.75), (6.0, 3.0), (5.0, 1.0), (10.0, 1.0), (7.0, 3.5), (8.0, 4.0), (10.0, 5.0), (20.0, 10.0), (60.0, 60.0)],
)
def test_all_speech_gets_an_answer_however_long_the_windows(store: SpeakerStore, window_s: float, hop_s: float) -> None:
    found = store.track(voice(14.3, 220, 1), window_s=window_s, hop_s=hop_s)
    (anna,) = found.segments
    assert anna.speaker == "anna b"
    np.testing.assert_allclose([anna.start_s, anna.end_s], [0, 14.3], atol=0.1)
    assert found.unanswered_s == 0
    assert found.text().splitlines()[0].endswith(" s of speech in 14.3 s")


def test_speech_without_an_answer_is_said(store: SpeakerStore) -> None:
    silence = np.zeros(5 * RATE_HZ, np.float32)
    found = store.track(np.concatenate([silence, voice(0.5, 220, 1), silence]), window_s=5.0, hop_s=5.0)
    assert found.segments == ()
    assert 0.3 < found.unanswered_s < 0.7
    assert found.unanswered_s == pytest.approx(found.evidence.speech_s, abs=0.01)
    assert found.text() == (
        f"waveform: {found.unanswered_s:.1f} s of speech in 10.5 s; {found.unanswered_s:.1f} s of it too sparse for "
        "an answer"
    )
    assert found.to_dict()["unanswered_s"] == round(found.unanswered_s, 3)


def test_long_windows_need_no_more_memory_than_short_ones(
    encoder: SpeakerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    embed = SpeakerEncoder.embed_frames

    def spy(self: SpeakerEncoder, fbank: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        shapes.append(fbank.shape[:2])
        return embed(self, fbank, lengths)

    monkeypatch.setattr(SpeakerEncoder, "embed_frames", spy)
    for window_s, hop_s in ((1.5, 0.75), (20.0, 10.0), (60.0, 60.0)):
        embed_windows(encoder, "x", [voice(130, 220)], window_s, hop_s)
    assert set(shapes) == {(64, 150), (4, 2000), (1, 6000)}


def test_rttm_keeps_different_names_apart() -> None:
    segments = (Segment(0.0, 1.0, "anna b", 0.5), Segment(1.0, 2.0, "anna_b", 0.5))
    found = Timeline("x", segments, SpeechEvidence(2.0, 2.0, -20.0, 0.0), 0.5, 0.75, (), np.zeros((0, 1), np.float32))
    with pytest.raises(UserError, match=r"speakers 'anna b' and 'anna_b' would both be 'anna_b' in RTTM.*Rename one"):
        found.rttm()


def test_in_an_empty_store_segments_have_no_score(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    found = SpeakerStore.create(tmp_path / "empty", encoder).track(voice(3, 220))
    assert found.text().splitlines()[1].endswith("nobody enrolled")


def test_who_is_not_enrolled_and_what_is_no_speech_is_nobody(store: SpeakerStore, tmp_path: Path) -> None:
    strangers = store.track(talk(), threshold=1.0)
    assert {segment.speaker for segment in strangers.segments} == {None}
    assert strangers.rttm() == ""
    noise = 0.1 * np.random.default_rng(0).normal(size=5 * RATE_HZ).astype(np.float32)
    for waveform in (noise, np.zeros(5 * RATE_HZ, np.float32), np.zeros(800, np.float32)):
        nothing = store.track(waveform, threshold=-1.0)
        assert nothing.segments == ()
        draw_timeline(nothing, tmp_path / "nothing.png")


def test_options_out_of_range_are_refused(store: SpeakerStore, encoder: SpeakerEncoder, tmp_path: Path) -> None:
    for options in ({"window_s": 0.2}, {"hop_s": 2.0}, {"hop_s": 0.01}):
        with pytest.raises(UserError, match=r"Windows of .* valid: 0.5 to 60 s"):
            store.track(talk(), **options)
    with pytest.raises(UserError, match=r"short: The audio is 6\.25 ms long"):
        store.track(np.zeros(100, np.float32), name="short")
    undecided = SpeakerStore.create(tmp_path / "undecided", make_encoder(mean=encoder.mean))
    with pytest.raises(UserError, match="has no threshold and no calibration, so nobody can match"):
        undecided.track(talk())


def test_times_print_as_clock_times() -> None:
    evidence = SpeechEvidence(8000.0, 3000.0, -20.0, 0.0)
    segments = (Segment(3599.996, 7265.5, None, 0.25),)
    found = Timeline("x", segments, evidence, 0.5, 0.75, (), np.zeros((0, 1), np.float32))
    assert found.text().splitlines()[1] == "1:00:00.00 2:01:05.50  nobody enrolled  score  0.250"
