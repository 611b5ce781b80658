"""What the tests of plans share."""

import jax
import numpy as np
import pytest

from mqmha_jax.plan import plan as plan_module


@pytest.fixture
def virtual_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's virtual devices on the grid of a v5e-8; nothing else of the plan is replaced."""
    places = np.argwhere(np.ones((2, 4)))
    monkeypatch.setattr(plan_module, "topology_devices", lambda topology: jax.devices()[: topology.num_chips])
    monkeypatch.setattr(plan_module, "chip_coordinates", lambda _, devices: places[[d.id for d in devices]])
