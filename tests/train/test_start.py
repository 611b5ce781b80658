"""A run that starts from another one: all processes are refused together."""

import numpy as np
import pytest

from mqmha_jax.config import StartConfig
from mqmha_jax.errors import UserError
from mqmha_jax.train.start import initialize_from_run
from tests.support.faulty_jobs import state
from tests.support.jobs import refused_elsewhere


def test_no_process_enters_orbax_when_another_may_not_run_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orbax waits for all processes, so a process that is refused alone would block the others for ever."""
    monkeypatch.setattr("mqmha_jax.train.start.raise_together", refused_elsewhere)
    monkeypatch.setattr("mqmha_jax.train.start.read_runnable_config", lambda workdir: None)
    monkeypatch.setattr("mqmha_jax.train.start.load_network", lambda *_: pytest.fail("entered"))
    with pytest.raises(UserError, match="another process"):
        initialize_from_run(state(0), StartConfig(run="other"), ("a",), lambda variables: np.zeros((1, 1)))
