"""Pictures are written, show the right curves, and refuse scores that have no error rate."""

import matplotlib.image
import matplotlib.text
import numpy as np
import pytest
from scipy.stats import norm

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.detection import detection_curve
from mqmha_jax.evaluation.report import drawing, plots


def scored(distance, num_targets=200, num_nontargets=2000, seed=0):
    rng = np.random.default_rng(seed)
    target = np.arange(num_targets + num_nontargets) < num_targets
    return (rng.normal(size=len(target)) + distance * target).astype(np.float32), target


@pytest.fixture
def draw_detection():
    """Draws a DET plot and returns its axes; writes no file."""

    def draw(results):
        axes = drawing.new_figure(5.0, 5.0).subplots()
        drawing.draw_detection(axes, results)
        return axes

    return draw


def test_the_picture_is_written(tmp_path):
    results = {"untrained": scored(0.3), "trained": scored(3.0)}
    plots.draw_results(results, tmp_path / "result.png", "Unseen speakers")
    pixels = matplotlib.image.imread(tmp_path / "result.png")
    assert pixels.shape[0] > 400
    assert pixels[..., :3].std() > 0.05  # not blank


def test_names_are_drawn_literally(tmp_path, monkeypatch):
    """A "$" would start a broken formula, and letters of another script would raise a warning."""
    drawn = {}

    def figure(*size):
        drawn["figure"] = drawing.new_figure(*size)
        return drawn["figure"]

    monkeypatch.setattr(plots, "new_figure", figure)
    name = r"a$\frac{b$_c 说话人"
    plots.draw_results({name: scored(1.0)}, tmp_path / "result.png", name)
    texts = [text for text in drawn["figure"].findobj(matplotlib.text.Text) if name in text.get_text()]
    assert len(texts) == 3  # heading, legend and histogram
    assert not any(text.get_parse_math() for text in texts)


def test_points_outside_the_picture_are_left_out(draw_detection):
    """A useless network is cheapest where it misses all targets; its point would lie on the legend."""
    axes = draw_detection({"useless": scored(0.0, num_targets=2000)})
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    points = [line for line in axes.lines if line.get_marker() in "oD" and len(line.get_xdata())]
    assert [line.get_marker() for line in points] == ["o"]
    assert all(left <= line.get_xdata()[0] <= right and low <= line.get_ydata()[0] <= high for line in points)


def test_curve_passes_through_the_marked_points(draw_detection):
    axes = draw_detection({"good": scored(3.0)})
    curve_line, eer_point, cost_point = axes.lines[:3]
    curve = detection_curve(*scored(3.0))
    assert norm.cdf(eer_point.get_xdata()[0]) == pytest.approx(curve.equal_error_rate(), abs=1e-9)
    assert eer_point.get_xdata()[0] == eer_point.get_ydata()[0]
    false_alarm, miss = norm.cdf(cost_point.get_xdata()[0]), norm.cdf(cost_point.get_ydata()[0])
    assert miss + 99 * false_alarm == pytest.approx(curve.min_dcf(0.01), abs=1e-9)
    x, y = curve_line.get_data()
    assert np.all(np.diff(x) <= 0)
    assert np.all(np.diff(y) >= 0)
    assert f"EER {100 * curve.equal_error_rate():.2f} %" in axes.get_legend().get_texts()[0].get_text()


def test_long_lists_draw_few_points_within_a_pixel_of_all(draw_detection):
    scores, target = scored(1.5, 20_000, 200_000)
    x, y = draw_detection({"long": (scores, target)}).lines[0].get_data()
    assert 100 < len(x) < 5_000
    curve = detection_curve(scores, target)
    inside = (curve.miss > 0.001) & (curve.miss < 0.75) & (curve.false_alarm > 0.001)
    drawn = np.interp(-norm.ppf(curve.false_alarm[inside]), -x, y)
    assert np.abs(drawn - norm.ppf(curve.miss[inside])).max() < 0.02  # normal deviates; the picture is about 5 wide


def test_perfect_and_constant_scores_draw(tmp_path):
    target = np.array([True, True, False, False])
    results = {"perfect": (np.array([2.0, 3.0, 0.0, 1.0]), target), "constant": (np.zeros(4), target)}
    plots.draw_results(results, tmp_path / "result.png")


def test_one_class_is_refused(tmp_path):
    with pytest.raises(UserError, match="only target trials"):
        plots.draw_results({"a": (np.ones(3), np.ones(3, bool))}, tmp_path / "result.png")
    assert not (tmp_path / "result.png").exists()
