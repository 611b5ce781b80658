"""The report tells the truth, loads nothing from outside, escapes all text, and takes lists of every kind."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.detection import equal_error_rate
from mqmha_jax.evaluation.metrics.results import Measured
from mqmha_jax.evaluation.report.html.confusions import find_hardest_trials
from mqmha_jax.evaluation.report.html.elements import Markup, code, paragraph
from mqmha_jax.evaluation.report.html.report import write_html_report
from mqmha_jax.evaluation.report.html.summary import choose_main_system
from mqmha_jax.evaluation.report.html.words import phrase_error_rate
from tests.support.evaluations import simulate, system_scores, words

NASTY = "_<script>alert('x')</script>\"&'$a$_語"
VOID = ("meta", "img")


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what the tests look at."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.images = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of two lists, one of them with few speakers and hostile names."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    first, embeddings = simulate()
    second = simulate(NASTY, num_speakers=8, per_speaker=5, prefix=NASTY, seed=1)[0]
    second = second._replace(systems=(*second.systems[:2], second.systems[2]._replace(name=NASTY)))
    write_html_report(path, [first, second], title=NASTY, settings={NASTY: NASTY}, embeddings=embeddings)
    return Page(path.read_text(encoding="utf-8"))


def test_nothing_comes_from_outside(page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/svg+xml;base64,", "data:audio/"))
    style = next(attributes for attributes in page.attributes("meta") if "http-equiv" in attributes)
    assert "default-src 'none'" in style["content"]


def test_pictures_are_whole_described_and_self_contained(page):
    images = page.attributes("img")
    texts = []
    assert len(images) == 1 + 2 * 3 + 1  # intervals; DET, scores and calibration of each list; the map of the first
    for image in images:
        assert len(image["alt"]) > 20
        svg = base64.b64decode(image["src"].partition(",")[2]).decode()
        tree = ElementTree.fromstring(svg)
        assert tree.tag.endswith("svg")
        texts.append(" ".join(tree.itertext()))
        links = re.findall(r'(?:href|src)="([^"]*)"', svg)
        assert all(link.startswith("#") for link in links)
    assert f"{NASTY}: cosine" in texts[0]
    assert f"{NASTY}: EER" in texts[5]  # the DET curves of the second list have all systems in their legend
    assert f"{NASTY}, as calibrated" in texts[7]


def test_headings_and_anchors_fit_together(page):
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.attributes("a")} == anchors
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_tables_are_named_and_rectangular(page):
    assert all("scope" in attributes for attributes in page.attributes("th"))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table") > 10
    start = tags.index("table")
    columns = tags[start : tags.index("tbody")].count("th")
    rows = " ".join(tags[tags.index("tbody") + 1 : tags.index("img")]).split("tr")[1:]
    cells = [len(re.findall(r"\b(?:th|td)\b", row)) for row in rows]
    assert cells == [columns] * (2 * 3 + 2)  # systems of two lists, and the means of those that both have


def test_numbers_in_words_match_the_scores(page):
    first = simulate()[0]
    eers = {s.name: equal_error_rate(s.scores, first.trials.target) for s in first.systems}
    assert f"{100 * eers['cosine']:.2f} %" in page.text
    assert f"{100 * eers['noisy']:.2f} %" in page.text
    best = choose_main_system([first], first)
    assert best.name == "cosine"
    of_100 = f"{100 * eers['cosine']:.0f}" if eers["cosine"] >= 0.1 else f"{100 * eers['cosine']:.2g}"
    assert f"first (10,296 trials, 24 speakers): of 100 answers about {of_100} are wrong with cosine" in page.text
    hardest = np.flatnonzero(first.trials.target)[np.argmin(first.systems[0].scores[first.trials.target])]
    after = page.text.partition("cosine: the same speaker, lowest scores")[2]
    row = f"{first.trials.enrol[hardest]} {first.trials.test[hardest]} {first.enrol_speaker[hardest]}"
    assert row in after[:200]


def test_intervals_of_few_speakers_are_marked_unreliable(page):
    assert "interval unreliable: fewer than 20 speakers" in page.text
    assert (
        page.text.count("interval unreliable") == 1 + 1 + 3
    )  # sentence, explanation, three rows; none of the first list


def test_conditions_without_targets_show_no_rate(page):
    female_male = page.text.partition("female / male")[2].partition("male / male")[0]
    assert female_male.split("no such trials")[0].strip() == ""
    assert female_male.count("no such trials") == 4  # three EERs and the misses; false alarms are a number
    assert "too few trials" in page.text  # the second list


def test_the_title_says_what_was_evaluated(page, tmp_path):
    assert page.text.startswith(f"{NASTY} on first and {NASTY}")
    evaluation = simulate(num_speakers=8)[0]
    four = [evaluation._replace(name=name) for name in "abcd"]
    write_html_report(tmp_path / "one.html", four[:1], title="Evaluation of x", settings={})
    write_html_report(tmp_path / "many.html", four, title="Evaluation of x", settings={})
    assert "<title>Evaluation of x on a</title>" in (tmp_path / "one.html").read_text()
    assert "<title>Evaluation of x on a and 3 other trial lists</title>" in (tmp_path / "many.html").read_text()


def test_the_hardest_trials_have_players_if_the_audio_is_at_hand(tmp_path):
    evaluation = simulate(num_speakers=8)[0]
    trials, system = evaluation.trials, evaluation.systems[0]
    hardest = find_hardest_trials(evaluation, choose_main_system([evaluation], evaluation), 3).targets
    names = ["../outside.wav", "there.wav", "kind.sph", "long.flac", "missing.wav", "there.wav"]
    for i, position in enumerate(hardest):
        enrol, test = list(trials.enrol), list(trials.test)
        enrol[position], test[position] = names[2 * i : 2 * i + 2]
        trials = trials._replace(enrol=tuple(enrol), test=tuple(test))
    root = tmp_path / "audio"
    root.mkdir()
    (root / "there.wav").write_bytes(b"RIFF")
    (root / "kind.sph").write_bytes(b"")
    (root / "long.flac").write_bytes(bytes((1 << 20) + 1))
    (tmp_path / "outside.wav").write_bytes(b"a file outside of the folder")
    evaluation = evaluation._replace(trials=trials, systems=(system,))
    write_html_report(tmp_path / "report.html", [evaluation], title="t", settings={}, audio=root)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    sources = [attributes["src"] for attributes in page.attributes("audio")]
    assert sources == ["data:audio/wav;base64," + base64.b64encode(b"RIFF").decode()] * 2
    for reason in ("not found", "no browser plays this kind", "too long to embed"):
        assert reason in page.text
    with pytest.raises(UserError, match=r"There is no folder .*nowhere; --audio names the folder"):
        write_html_report(tmp_path / "r.html", [evaluation], title="t", settings={}, audio=tmp_path / "nowhere")


def test_names_are_shown_and_never_become_markup(page):
    assert NASTY in page.text
    assert "alert" not in "".join(tag for tag, _ in page.tags)


def test_text_is_escaped_once():
    inner = code("<&")
    assert paragraph("a<b", inner, '"') == "<p>a&lt;b<code>&lt;&amp;</code>&#34;</p>"
    assert isinstance(inner, Markup)


@pytest.mark.parametrize(
    ("eer", "words"),
    [
        (0.075, "of 100 answers about 7.5 are wrong"),
        (0.2612, "of 100 answers about 26 are wrong"),
        (0.5, "of 100 answers about 50 are wrong"),
        (0.0056, "of 1,000 answers about 5.6 are wrong"),
        (0.00025, "of 10,000 answers about 2.5 are wrong"),
        (0.0, "no answer is wrong"),
    ],
)
def test_error_rates_in_words(eer, words):
    assert phrase_error_rate(Measured(eer, None, None))[0] == words


def test_lists_without_metadata(tmp_path):
    evaluation, embeddings = simulate(num_speakers=8)
    scores = evaluation.systems[0].scores
    perfect = scores + 3.0 * evaluation.trials.target
    bare = evaluation._replace(
        enrol_speaker=None,
        test_speaker=None,
        attributes={"session": words([""] * len(scores), [""] * len(scores))},
        systems=(system_scores("one", perfect, evaluation.trials.target),),
        num_speakers=None,
        reliable=False,
    )
    bare.systems[0].metrics["EER"] = Measured(0.0, None, None)
    few = embeddings._replace(ids=embeddings.ids[:3], vectors=embeddings.vectors[:3])
    write_html_report(tmp_path / "a" / "report.html", [bare], title="bare", settings={}, embeddings=few)
    text = Page((tmp_path / "a" / "report.html").read_text(encoding="utf-8")).text
    assert "no answer is wrong with one (no interval)" in text
    assert "The speakers of first are not known" in text
    assert "interval unreliable" not in text
    assert "The same in all trials: session (unknown)." in text
    assert "3 recordings have too few different embeddings" in text
    assert "Before and after" not in text
    assert "right (accepted)" in text  # the hardest trials of a perfect system


def test_without_a_common_system_each_list_shows_its_best():
    first, second = simulate()[0], simulate("second", seed=1)[0]
    first = first._replace(systems=first.systems[1:2] + first.systems[:1])
    second = second._replace(systems=second.systems[2:])
    assert choose_main_system([first, second], first).name == "cosine"
    assert choose_main_system([first, second], second).name == "calibrated"


def test_equal_numbers_make_equal_files(tmp_path):
    evaluation = simulate(num_speakers=8)[0]
    for name in ("one.html", "two.html"):
        write_html_report(tmp_path / name, [evaluation], title="t", settings={})
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_evaluations_that_cannot_be_reported_are_refused(tmp_path):
    evaluation = simulate(num_speakers=8)[0]
    path = tmp_path / "report.html"
    with pytest.raises(UserError, match=r"nothing to report; valid: at least one list"):
        write_html_report(path, [], title="t", settings={})
    with pytest.raises(UserError, match=r"nothing to report.*scored by at least one system"):
        write_html_report(path, [evaluation._replace(systems=())], title="t", settings={})
    with pytest.raises(UserError, match="Two of the lists are called 'first'; give them different names"):
        write_html_report(path, [evaluation, evaluation], title="t", settings={})
    assert not path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_html_report(tmp_path / "file" / "report.html", [evaluation], title="t", settings={})


@pytest.fixture
def browse(tmp_path):
    """Opens a page in headless Chromium; returns its output, its complaints and the addresses that the page loads."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    log = tmp_path / "net.json"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=400,30000"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"]

    def run(page, *options):
        result = subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
        # The browser also asks for updates and the time by itself; such requests have no origin.
        asked = {params["url"] for params in asked if params.get("initiator", "not an origin") != "not an origin"}
        complaints = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
        return result.stdout, complaints, {url for url in asked if url.startswith("http")}

    return run


@pytest.mark.slow
def test_chromium_shows_it_without_complaint(tmp_path, browse):
    report, leaky, picture = (tmp_path / name for name in ("report.html", "leaky.html", "report.png"))
    evaluation, embeddings = simulate(NASTY)
    write_html_report(report, [evaluation], title="In a browser", settings={"a": "b"}, embeddings=embeddings)
    dom, complaints, asked = browse(report, "--dump-dom")
    assert "In a browser" in Page(dom).text
    assert (complaints, asked) == ([], set())

    leaky.write_text('<p>page<img src="http://example.invalid/a.png"><script>console.error("no")</script>')
    _, complaints, asked = browse(leaky, "--dump-dom")
    assert asked == {"http://example.invalid/a.png"}
    assert len(complaints) == 1

    browse(report, f"--screenshot={picture}")
    pixels = matplotlib.image.imread(picture)[..., :3]
    assert pixels.shape[1] == 400
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100  # text, tables and pictures in colour
