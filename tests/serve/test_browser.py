"""People use the page: a browser records from a microphone, enrols, identifies, compares, on a desk and on a phone."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mqmha_jax.serve.app import make_app
from mqmha_jax.store.speaker_store import SpeakerStore
from tests.support.chromium import Page, find_chromium, open_browser
from tests.support.serving import serve_in_thread
from tests.support.voices import RATE_HZ, make_encoder, voice

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium (Debian's package chromium)"),
]

ADA, BEN = 100, 220
"""Pitches in Hz."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SpeakerStore:
    every = make_encoder().embed([voice(3, ADA), voice(3, BEN)]).vectors
    encoder = make_encoder(mean=every.mean(axis=0), threshold=0.5, name="tiny")  # from here, the two are opposite
    return SpeakerStore.create(tmp_path_factory.mktemp("people") / "store", encoder)


@pytest.fixture(scope="module")
def page(store: SpeakerStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("browser")
    soundfile.write(folder / "ada.wav", voice(20, ADA), RATE_HZ)
    with (
        serve_in_thread(make_app(store.encoder, store, warm=False)) as (url, _),
        open_browser(folder, folder / "ada.wav") as page,
    ):
        page.open(url)
        page.set_size(1600)
        page.wait_for("document.getElementById('network').textContent.includes('tiny')")
        yield page


@pytest.fixture
def ben(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "ben.wav", voice(2, BEN, seed=1), RATE_HZ)
    return tmp_path / "ben.wav"


@pytest.fixture
def other_ben(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "other.wav", voice(2, BEN, seed=2), RATE_HZ)
    return tmp_path / "other.wav"


def record(page: Page, form: str, seconds: float = 2.5) -> None:
    """Presses Record, waits, presses Stop."""
    button = f"document.querySelector('#{form} .record')"
    page.evaluate(f"{button}.click()")
    page.wait_for(f"{button}.textContent == 'Stop'")
    page.wait_for(f"Number(document.querySelector('#{form} .clock').textContent.at(-1)) >= {seconds}")
    assert page.evaluate(f"document.querySelector('#{form} meter').value") > -50
    page.evaluate(f"{button}.click()")
    page.wait_for(f"document.querySelectorAll('#{form} .takes li').length > 0")


def answer(page: Page, form: str) -> str:
    """Sends a form, and returns what its answer says."""
    page.evaluate(f"document.querySelector('#{form} .answer').replaceChildren()")
    page.evaluate(f"document.querySelector('#{form} .ask').click()")
    page.wait_for(f"document.querySelector('#{form} .verdict')")
    return re.sub("\n+", "\n", page.evaluate(f"document.querySelector('#{form} .answer').innerText"))


def test_who_is_enrolled_by_microphone_is_identified_by_microphone(
    page: Page, store: SpeakerStore, ben: Path, other_ben: Path
) -> None:
    record(page, "enrol")
    page.evaluate("document.getElementById('name').value = 'Ada <b>'")
    assert answer(page, "enrol").startswith("Ada <b> is enrolled\n1 recording, ")
    page.wait_for("document.querySelectorAll('#speakers li').length == 1")
    assert "Ada <b>" in store

    record(page, "identify")
    said = answer(page, "identify")
    assert said.startswith("Ada <b>\nScore ")
    assert "s of speech in" in said
    assert "dBFS" in said
    assert "clipped" in said

    page.choose_files("#enrol input[type=file]", ben, other_ben)
    page.evaluate("document.getElementById('name').value = 'Ben'")
    assert answer(page, "enrol").startswith("Ben is enrolled\n2 recordings, ")
    page.choose_files("#identify input", ben)
    assert answer(page, "identify").startswith("Ben\nScore ")

    page.wait_for("document.querySelectorAll('#speakers li').length == 2")
    page.evaluate("document.querySelector('#speakers button').click()")
    page.wait_for("document.getElementById('remove').open")
    page.evaluate("document.querySelector('#remove .danger').click()")
    page.wait_for("document.querySelectorAll('#speakers li').length == 1")
    assert [speaker.name for speaker in store.list_speakers()] == ["Ben"]
    assert page.complaints == []


def test_two_recordings_are_compared_and_silence_is_unsure(page: Page, ben: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "ada.wav", voice(2, ADA, seed=1), RATE_HZ)
    page.choose_files("#compare fieldset:nth-of-type(1) input", tmp_path / "ada.wav")
    page.choose_files("#compare fieldset:nth-of-type(2) input", ben)
    assert answer(page, "compare").startswith("Different speakers\nScore -")
    label = page.evaluate("document.querySelector('#compare .scale').getAttribute('aria-label')")
    assert label.endswith("the threshold is 0.50")

    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE_HZ), RATE_HZ)
    page.choose_files("#compare fieldset:nth-of-type(2) input", tmp_path / "silence.wav")
    said = answer(page, "compare")
    assert said.startswith("Unsure\nNot enough to decide: no speech, 1.0 s of silence in silence.wav.")
    assert page.complaints == []


def test_mistakes_are_sentences_on_the_page(page: Page, tmp_path: Path) -> None:
    (tmp_path / "letter.wav").write_bytes(b"Dear Sir or Madam")
    page.choose_files("#embed input", tmp_path / "letter.wav")
    assert answer(page, "embed").startswith("No answer\nletter.wav: cannot be decoded as audio")
    page.evaluate("document.querySelector('#enrol .ask').click()")
    assert page.evaluate("document.getElementById('name-trouble').textContent") == "Write the name of the speaker."
    assert page.evaluate("document.activeElement.id") == "name"
    page.complaints.clear()  # Chromium logs the status 422


@pytest.mark.parametrize(("width", "dark"), [(1600, False), (390, True)])
def test_nothing_is_wider_than_the_screen(page: Page, ben: Path, width: int, dark: bool) -> None:
    page.choose_files("#embed input", ben)
    answer(page, "embed")
    page.set_size(width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
    page.set_size(1600)


def test_the_keyboard_reaches_all_controls_and_each_has_a_name(page: Page) -> None:
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in nodes if node["role"]["value"] in ("button", "textbox", "combobox", "link", "meter")]
    assert len(controls) > 10
    assert [node for node in controls if not node["name"].get("value", "").strip()] == []
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('form')?.id + document.activeElement.className"))
    assert {f"{form}{control}" for form in ("identify", "compare", "enrol") for control in ("record", "ask")} <= reached
