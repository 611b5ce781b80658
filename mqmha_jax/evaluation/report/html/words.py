"""Formats numbers as a report prints them."""

from mqmha_jax.evaluation.metrics.bootstrap import MIN_SPEAKERS
from mqmha_jax.evaluation.metrics.results import ListEvaluation, Measured
from mqmha_jax.evaluation.report.html.elements import Markup, join, with_small

NOT_KNOWN = Markup("&ndash;")


def percent(share: float) -> str:
    """Formats a share in per cent, with two digits after the point."""
    return f"{100 * share:.2f} %"


def format_metric(metric: str, value: float) -> str:
    """Formats a metric as tables print it: error rates in per cent, costs with three digits."""
    return percent(value) if metric == "EER" else f"{value:.3f}"


def make_measured_cell(metric: str, measured: Measured | None) -> Markup:
    """Makes a table cell: the value with the interval below it, if known; a dash if nothing was measured."""
    if measured is None:
        return NOT_KNOWN
    value = format_metric(metric, measured.value)
    if measured.low is None or measured.high is None:
        return join(value)
    low, high = (format_metric(metric, end).removesuffix(" %") for end in (measured.low, measured.high))
    return with_small(value, f"{low} to {high}")


def phrase_error_rate(eer: Measured) -> tuple[str, int]:
    """Says an error rate in words, such as "of 1,000 answers about 6 are wrong".

    Returns:
      The words, and the number of answers in them (1,000).
    """
    of = 100
    while 0 < eer.value < 1 / of:
        of *= 10
    return (f"of {of:,} answers about {_round(of * eer.value)} are wrong" if eer.value else "no answer is wrong"), of


def phrase_interval(evaluation: ListEvaluation, eer: Measured, of: int) -> str:
    """Says how sure an error rate is, in wrong answers per ``of`` answers."""
    if eer.low is None or eer.high is None:
        return "no interval"
    words = f"95 % interval: {_round(of * eer.low)} to {_round(of * eer.high)} of {of:,}"
    return words if evaluation.reliable else f"{words}; interval unreliable: fewer than {MIN_SPEAKERS} speakers"


def _round(count: float) -> str:
    """Rounds to two digits, without an exponent."""
    return f"{count:.0f}" if count >= 10 else f"{count:.2g}" if count >= 0.1 else f"{count:.1f}"
