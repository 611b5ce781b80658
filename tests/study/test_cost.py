"""The cost of a cell: the random batch that it is measured on, and which kept cost is read."""

from pathlib import Path

import pytest

from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.parallel import device_mesh
from mqmha_jax.study import cost as costs
from mqmha_jax.study.cost import Cost, measure_or_read_cost, random_batch
from mqmha_jax.study.plan import Cell
from mqmha_jax.train.build import build_training
from tests.support.tiny import tiny_config


@pytest.mark.parametrize(
    ("overrides", "more"),
    [
        ([], set()),
        (["augment.noise=noise", "augment.rooms=rooms", "augment.context_frames=7"], {"noise", "decay"}),
    ],
)
def test_the_batch_holds_every_array_that_the_step_takes(overrides: list[str], more: set[str]) -> None:
    config = with_overrides(tiny_config({}), overrides)
    training = build_training(config, num_speakers=8, mesh=device_mesh(config.mesh))
    batch = random_batch(training, config.data.crop_frames, 8)
    assert batch.keys() == {"fbank", "num_frames", "speaker", "example"} | more
    for name, spec in training.batch.items():
        assert (batch[name].shape, batch[name].dtype) == (spec.shape, spec.dtype)
    assert set(batch["num_frames"]) == {config.data.crop_frames}
    assert 0 <= batch["speaker"].min() <= batch["speaker"].max() < 8


def test_a_kept_cost_is_read_only_for_the_same_network_speakers_and_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(config: Config, num_speakers: int) -> Cost:
        measured.append(num_speakers)
        return Cost(1, num_speakers, 1.0, 1.0, 1.0, 1.0, device[0])

    device = ["1 device (cpu)"]
    monkeypatch.setattr(costs, "measure_cost", measure)
    monkeypatch.setattr(costs.parallel, "describe_devices", lambda: device[0])
    cell = Cell("a", tiny_config({}), 1)
    for num_speakers in (8, 8, 5000, 5000):
        assert measure_or_read_cost(cell, num_speakers, tmp_path / "cost.json").head_parameters == num_speakers
    device[0] = "8 devices (tpu)"
    measure_or_read_cost(cell, 5000, tmp_path / "cost.json")
    assert measured == [8, 5000, 5000]
