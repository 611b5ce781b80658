"""Study files are checked and resolved, and so are the studies that come with the project."""

from pathlib import Path

import pytest

from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.study import Budget, Control, Factor, Study, TrialList
from mqmha_jax.study.plan import make_plan, resolve_cells
from mqmha_jax.study.sizes import ALIKE, count_network_parameters, match_size
from mqmha_jax.study.spec import load_study
from tests.support.paths import ROOT
from tests.support.tiny import tiny_config, tiny_corpus

SHIPPED = sorted(path for path in (ROOT / "configs" / "studies").glob("*.py") if not path.stem.startswith("_"))
RUNS_ON_A_LAPTOP, MINUTES_ON_A_LAPTOP = 52, 4  # all shipped studies together; each run


def small_study(**changes: object) -> Study:
    parts: dict[str, object] = {
        "question": "?",
        "base": tiny_config({}),
        "factors": (
            Factor("pooling", {"tstp": ["model.pooling=tstp"], "tap": ["model.pooling=tap"]}),
            Factor("k", {"0": ["loss.top_k=0"], "2": ["loss.top_k=2"], "3": ["loss.top_k=3"]}),
        ),
        "reference": "tstp+0",
        "seeds": (0, 1),
        "train": "train",
        "lists": (TrialList("dev.trials", shards="dev"),),
        "budget": Budget(runs=12, minutes_per_run=1.0),
    }
    return Study(**{**parts, **changes})  # type: ignore[arg-type]


def test_the_grid_is_full_unless_cells_are_named() -> None:
    cells = resolve_cells(small_study(), Path("shards"))
    assert [cell.name for cell in cells] == ["tstp+0", "tstp+2", "tstp+3", "tap+0", "tap+2", "tap+3"]
    expected = ["model.pooling=tap", "loss.top_k=3", "data.train=shards", "train.seed=1"]
    assert cells[-1].with_seed(1) == with_overrides(tiny_config({}), expected)
    some = resolve_cells(small_study(cells=("tap+3", "tstp+0")), Path("shards"))
    assert [cell.name for cell in some] == ["tstp+0", "tap+3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": ()}, "The study has no seed; give at least one"),
        ({"seeds": (1, 1)}, "names a seed twice: 1, 1"),
        ({"factors": ()}, "The study has no factor"),
        ({"reference": "tstp+1"}, r"Unknown reference cell 'tstp\+1'. Did you mean 'tstp\+"),
        ({"cells": ("tstp+0", "tsp+2")}, r"Unknown cell 'tsp\+2'. Did you mean 'tstp\+2'"),
        ({"cells": ("tap+0",)}, r"Unknown reference cell 'tstp\+0'"),
        ({"decide_on": "dav"}, "Unknown list to decide on 'dav'. Did you mean 'dev'"),
        ({"lists": (TrialList("a/dev.txt", "x"), TrialList("b/dev.txt", "y"))}, "names a trial list twice: dev, dev"),
        ({"controls": (Control("tap+9", "tap+0", "model.embedding_dim"),)}, r"Unknown cell of a control 'tap\+9'"),
        (
            {
                "controls": (
                    Control("tstp+2", "tstp+0", "model.embedding_dim"),
                    Control("tstp+2", "tstp+0", "model.encoder.final_channels"),
                )
            },
            r"two controls 'tstp\+0-as-large-as-tstp\+2', with the options model.embedding_dim and model.encoder.final",
        ),
        (
            {"budget": Budget(11, 1.0)},
            r"needs 12 runs \(6 cells and 0 controls, 2 seeds each\), and its budget allows 11: name fewer",
        ),
    ],
)
def test_contradictions_raise_a_user_error(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_study(**change)


def test_levels_are_checked() -> None:
    with pytest.raises(UserError, match=r"level 'on': give a list of overrides, \['loss.top_k=5'\]"):
        Factor("k", {"on": "loss.top_k=5"})
    with pytest.raises(UserError, match="the name 'a/b' becomes part of a directory's name; valid: letters"):
        Factor("k", {"a/b": []})
    with pytest.raises(UserError, match="'k' has no level"):
        Factor("k", {})


def test_an_invalid_override_is_named_with_its_factor_and_level() -> None:
    wrong = Factor("k", {"0": ["loss.topk=0"]})
    with pytest.raises(UserError, match=r"Factor 'k', level '0': Unknown option of loss 'topk'. Did you mean 'top_k'"):
        resolve_cells(small_study(factors=(wrong,), reference="0"), Path())
    wrong = Factor("k", {"0": ["model.pooling.heads=5"]})
    with pytest.raises(UserError, match=r"Cell '0': .*heads = 5 does not divide"):
        resolve_cells(small_study(factors=(wrong,), reference="0"), Path())


def test_equal_cells_are_refused() -> None:
    same = Factor("k", {"usual": [], "two": ["loss.top_k=2"]})
    with pytest.raises(UserError, match="cells 'usual' and 'two' are the same configuration"):
        resolve_cells(small_study(factors=(same,), reference="two"), Path())


@pytest.mark.parametrize("option", ["model.encoder.final_channels", "model.embedding_dim", "model.encoder.channels"])
def test_a_network_is_grown_to_a_size(option: str) -> None:
    """No neighbouring value comes nearer."""
    small = with_overrides(tiny_config({}), ["model.pooling=tstp"])
    wanted = count_network_parameters(with_overrides(small, ["model.encoder.channels=40"]))
    matched = match_size(small, option, wanted)
    *sections, last = option.split(".")
    options = matched.model.encoder.options if len(sections) == 2 else vars(matched.model)
    neighbours = [with_overrides(small, [f"{option}={options[last] + move}"]) for move in (-1, 0, 1)]
    distances = [abs(count_network_parameters(config) - wanted) for config in neighbours]
    assert min(distances) == distances[1] <= ALIKE * wanted


def test_an_option_that_does_not_grow_the_network_is_named() -> None:
    small = tiny_config({})
    with pytest.raises(UserError, match=r"train\.steps cannot bring the network to 9,000,000 parameters"):
        match_size(small, "train.steps", 9_000_000)
    with pytest.raises(UserError, match=r"model\.embedding_dim cannot bring the network to 10 parameters: 1 gives"):
        match_size(small, "model.embedding_dim", 10)


def test_a_network_with_attention_is_grown_in_steps_of_its_heads() -> None:
    encoder = ["model.encoder=tdnn", "model.encoder.final_channels=192"]
    cell = with_overrides(tiny_config({}), [*encoder, "model.pooling=mqmha", "model.pooling.heads=6"])
    wanted = count_network_parameters(with_overrides(cell, ["model.encoder.final_channels=246"]))
    for parameters in (wanted, wanted + 1):
        matched = match_size(cell, "model.encoder.final_channels", parameters)
        assert matched.model.encoder.options["final_channels"] == 246


def test_a_control_that_cannot_be_as_large_is_named() -> None:
    pooling = Factor("pooling", {"tstp": [], "mqmha": ["model.pooling=mqmha", "model.pooling.heads=80"]})
    base = with_overrides(tiny_config({}), ["model.pooling=tstp", "model.encoder.final_channels=160"])
    control = Control(of="tstp", cell="mqmha", option="model.encoder.final_channels")
    study = small_study(base=base, factors=(pooling,), reference="tstp", controls=(control,))
    message = (
        r"^Control 'mqmha-as-large-as-tstp': model\.encoder\.final_channels cannot bring the network to [\d,]+ "
        r"parameters: no value from 1 to 64 is possible\. model\.encoder\.final_channels=64 is not possible: .*"
        r"heads = 80 does not divide .* Correct the cell, or name another option\.$"
    )
    with pytest.raises(UserError, match=message):
        resolve_cells(study, Path())
    control = Control(of="tstp", cell="tstp", option="model.encoder.chanels")
    study = small_study(base=base, factors=(pooling,), reference="tstp", controls=(control,))
    with pytest.raises(UserError, match=r"^Control 'tstp-as-large-as-tstp': .*Did you mean 'channels'\?"):
        resolve_cells(study, Path())


def test_all_data_directories_are_searched(tmp_path: Path) -> None:
    tiny_corpus(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "dev.trials").rename(tmp_path / "b" / "dev.trials")
    plan = make_plan(small_study(), [tmp_path / "a", tmp_path / "b"])
    assert plan.lists[0].trials == tmp_path / "b" / "dev.trials"
    assert plan.num_speakers == 8
    assert plan.num_runs == 12
    with pytest.raises(UserError, match=r"needs 'dev\.trials', which is not in .*a; give its parent with --data DIR"):
        make_plan(small_study(), [tmp_path / "a"])


def test_lists_that_share_speakers_need_one_that_decides(tmp_path: Path) -> None:
    tiny_corpus(tmp_path)
    (tmp_path / "again.trials").write_text((tmp_path / "dev.trials").read_text())
    lists = (TrialList("dev.trials", "dev"), TrialList("again.trials", "dev"))
    with pytest.raises(UserError, match=r"dev and again share 4 speakers \(e\.g\. 's10'\).*set decide_on to one list"):
        make_plan(small_study(lists=lists), [tmp_path])
    assert len(make_plan(small_study(lists=lists, decide_on="again"), [tmp_path]).lists) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("STUDY = 3", r"must define STUDY = Study\(\.\.\.\)"),
        ("STUDY = {}", r"must define STUDY = Study\(\.\.\.\)"),
        (
            "from mqmha_jax.study import Study\nSTUDY = Study(question='?')",
            "cannot be read as a study: Type.*Error: missing .*'base'",
        ),
        ("STUDY = (", "cannot be read as a study: SyntaxError"),
        ("from mqmha_jax.study import Factor\nSTUDY = Factor('k', {})", "study.py: Factor 'k' has no level"),
    ],
)
def test_a_file_without_a_study_raises_a_user_error(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(text)
    with pytest.raises(UserError, match=message):
        load_study(tmp_path / "study.py")


def test_missing_files_and_scales_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No study file"):
        load_study(tmp_path / "none.py")
    with pytest.raises(UserError, match="several scales; choose one with --scale: full, small"):
        load_study(ROOT / "configs" / "studies" / "inter_topk.py")
    with pytest.raises(UserError, match=r"Unknown scale of .* 'smal'. Did you mean 'small'"):
        load_study(ROOT / "configs" / "studies" / "inter_topk.py", "smal")


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        *((path.stem, "small") for path in SHIPPED),
        ("converged", "synthetic"),
        *(pytest.param(name, "full", marks=pytest.mark.slow) for name in ("inter_topk", "pooling", "q_by_h")),
    ],
)
def test_shipped_studies_resolve(name: str, scale: str) -> None:
    study = load_study(ROOT / "configs" / "studies" / f"{name}.py", scale)
    cells = {cell.name: cell for cell in resolve_cells(study, Path("shards"))}
    assert study.reference in cells
    for cell in cells.values():
        assert isinstance(cell.with_seed(study.seeds[-1]), Config)
        if cell.control_of:
            assert cell.parameters == pytest.approx(cells[cell.control_of].parameters, rel=ALIKE)


def test_shipped_studies_fit_on_a_laptop() -> None:
    studies = [load_study(path, "small") for path in SHIPPED]
    assert len(studies) == 4
    runs = [(len(study.cell_names()) + len(study.controls)) * len(study.seeds) for study in studies]
    assert runs == [study.budget.runs for study in studies]
    assert sum(runs) <= RUNS_ON_A_LAPTOP
    assert all(study.budget.minutes_per_run <= MINUTES_ON_A_LAPTOP for study in studies)
