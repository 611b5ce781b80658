"""The identity of a dev list follows its trials and shards, not their places."""

import shutil
from pathlib import Path

from mqmha_jax.config_io import with_overrides
from mqmha_jax.data.joined_shards import open_training_shards
from mqmha_jax.evaluation.dev_list import DevList
from tests.support.tiny import tiny_config, tiny_corpus


def test_the_identity_of_a_dev_list_is_that_of_its_content(tmp_path: Path) -> None:
    config = tiny_config(tiny_corpus(tmp_path))
    training = open_training_shards(config.data, config.fbank)
    trials = Path(config.data.dev_trials)

    def identity(dev: str, path: Path) -> str:
        changed = with_overrides(config, [f"data.dev={dev}", f"data.dev_trials={path}"])
        return DevList(changed.data, training).identity()

    before = identity(config.data.dev, trials)
    moved = shutil.copytree(config.data.dev, tmp_path / "moved")
    assert identity(str(moved), Path(shutil.copy(trials, tmp_path / "moved.trials"))) == before
    fewer = tmp_path / "fewer.trials"
    fewer.write_text("\n".join(trials.read_text().splitlines()[:-1]) + "\n")
    assert identity(config.data.dev, fewer) != before
