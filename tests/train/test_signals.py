"""A request to stop says how the program ends, and a second Ctrl-C does what Ctrl-C did before."""

import signal

import pytest

from mqmha_jax.train.signals import stop_on_signal, stop_status


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)], ids=str
)
def test_the_status_is_that_of_the_signal(number: signal.Signals, status: int, capfd: pytest.CaptureFixture) -> None:
    with stop_on_signal() as stop_requested:
        assert not stop_requested()
        signal.raise_signal(number)
        assert stop_requested()
    assert stop_status() == status
    assert "saving a checkpoint after this step" in capfd.readouterr().err


def test_a_second_ctrl_c_does_what_it_did_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with stop_on_signal():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    handled: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: handled.append(number))
    try:
        with stop_on_signal():
            signal.raise_signal(signal.SIGINT)
            assert handled == []
            signal.raise_signal(signal.SIGINT)
        assert handled == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
