"""Finds which enrolled speaker speaks when: averages neighbouring windows, decides, and joins equal decisions.

Every step of ``hop_s`` gets one embedding: the mean of the unit-length embeddings of the windows around it, weighted by
the speech in them. It is compared with the enrolled speakers as the embedding of a recording is. The frames of speech
in the step get the step's answer; a pause within the speech of one speaker belongs to it.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mqmha_jax.features.voicing import HOP_MS
from mqmha_jax.store.decide import Measures, Rule
from mqmha_jax.store.search import Centres, scale_to_unit
from mqmha_jax.store.timeline import Segment, Timeline, total_seconds
from mqmha_jax.store.windows import Windows

SMOOTH_S = 3.0
"""Length in seconds of the interval around a step whose windows, by their middles, are averaged.

Where no window's middle lies within it, as at the ends of a recording if windows are long, the nearest ones count.
"""

MIN_SPEECH_SHARE = 0.3
"""A window with a smaller share of speech is ignored."""

LONGEST_PAUSE_S = 0.6
"""A longer silence ends a segment."""

SHORTEST_SEGMENT_S = 0.25
"""Shorter segments are left out."""

MOST_DRAWN = 12
"""Speakers whose scores are kept for the picture."""

_SCORES_AT_ONCE = 1 << 24
_FRAME_S = HOP_MS / 1000
_ROUNDING_S = 1e-6  # both windows at the same distance count, whatever rounding makes of it


def track_speakers(
    name: str,
    windows: Windows,
    centres: Centres,
    speakers: tuple[str, ...],
    mean: Float32[np.ndarray, " E"],
    rule: Rule,
) -> Timeline:
    """Finds which of P speakers speaks when.

    Args:
      name: of the recording.
      windows: of the recording.
      centres: of the speakers.
      speakers: P names.
      mean: subtracted from embeddings before they are compared.
      rule: decides each step.
    """
    units, measures = _smooth(windows, mean)
    best = np.full(len(units), -1, np.int64)
    best_score = np.full(len(units), np.nan, np.float32)
    heard = np.flatnonzero(np.isfinite(units[:, 0]))
    rows_at_once = max(1, _SCORES_AT_ONCE // max(1, len(speakers)))
    for start in range(0, len(heard), rows_at_once):
        rows = heard[start : start + rows_at_once]
        for row, scores in zip(rows, units[rows] @ centres.vectors.T, strict=True):
            decided = rule.decide(scores, centres, Measures(*measures[row].tolist()), 1)
            if len(decided.nearest):
                best_score[row] = scores[decided.nearest[0]]
            if decided.verdict == "match":
                best[row] = decided.nearest[0]
    segments, answered_s = _join(windows, best, best_score, heard, speakers)
    talkative = [one for one in total_seconds(segments) if one is not None][:MOST_DRAWN]
    columns = [speakers.index(one) for one in talkative]
    return Timeline(
        name,
        segments,
        windows.evidence,
        None if rule.calibration else rule.threshold,
        windows.hop_s,
        tuple(talkative),
        (units @ centres.vectors[columns].T).T,
        max(0.0, float(windows.speech.sum()) * _FRAME_S - answered_s),
    )


def _smooth(
    windows: Windows, mean: Float32[np.ndarray, " E"]
) -> tuple[Float32[np.ndarray, "steps E"], Float64[np.ndarray, "steps 2"]]:
    """Unit-length embedding of each step, NaN without speech; and its measures."""
    speech_s = windows.speech_s()
    weight = np.where(speech_s >= MIN_SPEECH_SHARE * windows.lengths_s(), speech_s, 0.0).astype(np.float32)
    used = weight > 0
    units, norms = np.zeros_like(windows.vectors), np.ones((len(used), 1), np.float32)
    if used.any():
        units[used], norms[used] = scale_to_unit(windows.vectors[used] - mean)
    # Window w lies around w * hop + window / 2, step s around (s + 1/2) * hop.
    steps = len(units) + round(windows.window_s / windows.hop_s) - 1
    middle_of_step = (np.arange(steps) + 0.5) * windows.hop_s
    middle_of_window = np.arange(len(units)) * windows.hop_s + windows.window_s / 2
    nearest = np.abs(middle_of_step[:, None] - middle_of_window[_neighbours(middle_of_window, middle_of_step)]).min(1)
    reach = np.maximum(SMOOTH_S / 2, nearest) + _ROUNDING_S
    first = np.searchsorted(middle_of_window, middle_of_step - reach)
    last = np.searchsorted(middle_of_window, middle_of_step + reach, side="right")
    summed = _between(
        np.concatenate([units, np.log(norms), np.ones_like(norms)], axis=1) * weight[:, None], first, last
    )
    total = summed[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        vectors = summed[:, :-2] / np.linalg.norm(summed[:, :-2], axis=1, keepdims=True)
        log_norm = summed[:, -2:-1] / total
    duration = np.maximum(1, last - first)[:, None] * windows.hop_s + windows.window_s - windows.hop_s
    vectors[total[:, 0] <= 0] = np.nan
    return vectors.astype(np.float32), np.concatenate([log_norm, np.log(duration)], axis=1)


def _neighbours(
    places: Float64[np.ndarray, " W"], points: Float64[np.ndarray, " steps"]
) -> Int64[np.ndarray, "steps 2"]:
    """Positions of the last place before and the first behind each point; the places rise."""
    behind = np.searchsorted(places, points)
    return np.clip(np.stack([behind - 1, behind], axis=1), 0, len(places) - 1)


def _between(
    rows: Float32[np.ndarray, "W k"], first: Int64[np.ndarray, " steps"], last: Int64[np.ndarray, " steps"]
) -> Float64[np.ndarray, "steps k"]:
    """Sums of rows ``first`` to ``last`` (excluded)."""
    return np.stack([rows[a:b].sum(axis=0, dtype=np.float64) for a, b in zip(first, last, strict=True)])


def _join(
    windows: Windows,
    best: Int64[np.ndarray, " steps"],
    score: Float32[np.ndarray, " steps"],
    heard: Int64[np.ndarray, " _"],
    speakers: tuple[str, ...],
) -> tuple[tuple[Segment, ...], float]:
    """Segments of speech with one answer, and the seconds of speech in them."""
    frames = np.flatnonzero(windows.speech)
    step = np.minimum((frames * _FRAME_S / windows.hop_s).astype(np.int64), len(best) - 1)
    known = np.isin(step, heard)
    frames, step = frames[known], step[known]
    if not len(frames):
        return (), 0.0
    breaks = (np.diff(best[step]) != 0) | (np.diff(frames) > LONGEST_PAUSE_S / _FRAME_S)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [len(frames)]])
    segments, answered = [], 0
    for a, b in zip(starts, ends, strict=True):
        start_s, end_s = float(frames[a] * _FRAME_S), float((frames[b - 1] + 1) * _FRAME_S)
        who = int(best[step[a]])
        if end_s - start_s >= SHORTEST_SEGMENT_S:
            speaker = None if who < 0 else speakers[who]
            segments.append(Segment(start_s, end_s, speaker, float(score[step[a:b]].mean())))
            answered += int(b - a)
    return tuple(segments), answered * _FRAME_S
