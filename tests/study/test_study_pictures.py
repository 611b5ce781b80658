"""The pictures of a study draw the names of its lists and measurements as they are."""

from pathlib import Path

import numpy as np
from PIL import Image

from mqmha_jax.config import Config
from mqmha_jax.study import Budget, Factor, Study, TrialList
from mqmha_jax.study.effects import METRICS, Measured
from mqmha_jax.study.pictures import draw_factor, draw_training

NAME = r"a$\frac{b$"  # a formula with a mistake, at which matplotlib stops


def test_the_name_of_a_list_is_no_formula(tmp_path: Path) -> None:
    factor = Factor("pooling", {"tap": [], "tstp": []})
    study = Study(
        question="?",
        base=Config(),
        factors=(factor,),
        reference="tap",
        seeds=(0,),
        train="train",
        lists=(TrialList(f"{NAME}.trials", shards="dev"),),
        budget=Budget(2, 1.0),
    )
    values = dict.fromkeys(factor.levels, np.full((4, len(METRICS)), 0.1))
    draw_factor(tmp_path / "factor.png", study, factor, Measured(NAME, values, values, 30, 30), [*factor.levels])
    with Image.open(tmp_path / "factor.png") as picture:
        assert picture.width > 150


def test_the_name_of_a_measurement_is_no_formula(tmp_path: Path) -> None:
    draw_training(tmp_path / "training.png", {NAME: {"tap": [(np.arange(3), np.ones(3))]}})
    with Image.open(tmp_path / "training.png") as picture:
        assert picture.width > 150
