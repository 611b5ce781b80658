"""Waiting for the compiler: results and errors come back, progress is told, the limit holds."""

import threading

import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.plan.time_limit import run_within


def test_the_result_comes_back() -> None:
    assert run_within(lambda: 7, limit_seconds=60.0, progress=print) == 7
    assert run_within(lambda: None, limit_seconds=None, progress=print) is None


def test_an_error_comes_back_as_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        run_within(lambda: 1 / 0, limit_seconds=60.0, progress=print)


def test_progress_is_told_while_it_lasts() -> None:
    said: list[str] = []
    enough = threading.Event()

    def tell(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            enough.set()

    run_within(lambda: enough.wait(60), limit_seconds=6000.0, progress=tell, report_every_seconds=0.01)
    assert said[0].startswith("  still compiling after ")
    assert said[0].endswith(" min of at most 100 min")


def test_the_limit_ends_the_wait_and_says_what_to_do() -> None:
    never = threading.Event()
    with pytest.raises(UserError, match=r"no answer within the time limit of .* min\. .* --time-limit MINUTES"):
        run_within(never.wait, limit_seconds=0.05, progress=print)
    never.set()
