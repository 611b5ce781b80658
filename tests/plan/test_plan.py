"""Plans from end to end: the real step, compiled for eight virtual devices that pose as a slice, and for a TPU."""

import importlib.util
import json
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.plan import Plan, format_plan, make_plan
from mqmha_jax.plan import compiled as compiled_module
from mqmha_jax.plan import plan as plan_module
from mqmha_jax.plan.chips import CHIPS, GIB
from mqmha_jax.plan.compiled import CompiledStep, compile_step
from mqmha_jax.plan.corpus import find_corpus_size
from mqmha_jax.plan.memory import Memory, list_remedies
from mqmha_jax.plan.report import plan_to_dict
from mqmha_jax.plan.step_time import StepTime, Traffic, compute_step_time
from mqmha_jax.plan.topology import topology_devices
from tests.support.tiny import tiny_config, write_tiny_shards

SPEAKERS = 300


def experiment() -> Config:
    return with_overrides(tiny_config({}), ["data.batch_size=16", "mesh.data=4", "mesh.model=2"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


def plan_eight(cache: Path, said: list[str]) -> Plan:
    return make_plan(
        experiment(), "v5e-8", num_speakers=SPEAKERS, utterances=96, cache=cache, progress=said.append, one_chip=True
    )


def test_a_plan_of_the_real_step(virtual_slice: None, cache: Path) -> None:
    said: list[str] = []
    plan = plan_eight(cache, said)
    tracing = "Tracing the training step for v5e-8: 8 v5e chips, 2 x 4 ..."
    assert said[0] == tracing
    compiling = "Compiling the training step for"
    assert said[1].startswith(f"{compiling} v5e-8: 8 v5e chips, 2 x 4; mesh data=4 x model=2; this usually takes")
    assert said[2].startswith(f"{compiling} one v5e chip: 1 v5e chip, 1 x 1; mesh data=1 x model=1; this usually takes")
    assert len(said) == 3
    assert plan.mesh == {"data": 4, "model": 2}
    assert plan.fits

    # 300 classes are 512 rows; a chip holds half of them, 2 sub-centres of 6 float32. Adam's state is twice that.
    assert plan.memory.head == 512 // 2 * 2 * 6 * 4
    assert plan.memory.batch == 16 // 8 * (24 * 8 * 2 + 4 + 4 + 4)
    assert plan.memory.optimizer > 2 * plan.memory.head
    parts = [getattr(plan.memory, name) for name in Memory.__dataclass_fields__ if name not in ("needed", "capacity")]
    assert sum(parts) == plan.memory.needed

    # The embeddings of the chips along ``model`` meet at the head, and gradients meet over all.
    assert {(item.kind, item.group_size) for item in plan.traffic} >= {("all-reduce", 8), ("all-reduce", 2)}
    assert plan.time is not None
    assert plan.one_chip is not None
    assert plan.one_chip.exposed == plan.one_chip.overlapped == 0
    assert plan.step.matrix_flops > 0
    assert plan.step.unknown_loops == 0

    said.clear()
    again = plan_eight(cache, said)
    assert said == [tracing]
    assert again == plan


def test_the_report_holds_every_line(virtual_slice: None, cache: Path) -> None:
    plan = plan_eight(cache, [])
    text = format_plan(plan)
    assert text.startswith("v5e-8: 8 v5e chips, 2 x 4; mesh data=4 x model=2; 300 speakers; batch 16 x 24 frames")
    for words in (
        "head: prototypes",
        "activations and temporaries",
        "of 16.00 GiB",
        "matrix FLOPs",
        "all-reduce",
        "utterances/s, slice",
        "hours for 12 steps (2.0 epochs)",
        "speed / (chips x one chip)",
        "least time = max(compute, memory, overlapped) + exposed",
        "Fits: 100% of the memory stays free.",
    ):
        assert words in text
    data = json.loads(json.dumps(plan_to_dict(plan)))
    assert data["fits"] is True
    assert data["topology"]["chip"]["name"] == "v5e"
    assert data["time"]["bound"] == plan.time.bound  # type: ignore[union-attr]
    assert data["traffic"][0]["kind"] == plan.traffic[0].kind


@pytest.mark.slow
def test_a_larger_batch_costs_more(virtual_slice: None, cache: Path) -> None:
    plan = plan_eight(cache, [])
    twice = make_plan(with_overrides(experiment(), ["data.batch_size=32"]), "v5e-8", num_speakers=SPEAKERS, cache=cache)
    assert twice.step.matrix_flops > 1.9 * plan.step.matrix_flops
    assert twice.memory.batch == 2 * plan.memory.batch
    assert twice.memory.head == plan.memory.head


@pytest.mark.parametrize(
    ("message", "needed", "temporaries"),
    [
        ("XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 35.50G of 15.75G hbm.", 35.5, 0),
        (
            "Ran out of memory on HBM, the total memory required for HLO temporaries (35.50G) exceeds available HBM "
            "(15.75G).",
            *(0, 35.5),
        ),
    ],
)
def test_a_step_that_does_not_fit_is_an_answer_too(
    tmp_path: Path, message: str, needed: float, temporaries: float
) -> None:
    class TooLarge(jax.stages.Lowered):
        def __init__(self) -> None:
            pass

        def as_text(self, *_: Any, **__: Any) -> str:
            return "module"

        def compile(self, *_: Any, **__: Any) -> Any:
            raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")

    compiled: list[str] = []

    def ask() -> CompiledStep:
        return compile_step(
            TooLarge(), target="v5e:4x4", num_devices=16, cache=tmp_path, progress=lambda _: compiled.append("once")
        )

    step = ask()
    assert not step.fits
    assert (step.needed_bytes, step.temporary_bytes) == (needed * GIB, temporaries * GIB)
    assert step.limit_bytes == 15.75 * GIB
    assert ask() == step
    assert compiled == ["once"]
    (kept,) = tmp_path.iterdir()
    kept.write_text(kept.read_text()[:20])  # after damage the compiler is asked again
    assert ask() == step
    assert compiled == ["once", "once"]


def test_a_compiler_that_does_not_answer_in_time_is_given_up(tmp_path: Path) -> None:
    never = threading.Event()

    class Slow(jax.stages.Lowered):
        def __init__(self) -> None:
            pass

        def as_text(self, *_: Any, **__: Any) -> str:
            return "module"

        def compile(self, *_: Any, **__: Any) -> Any:
            never.wait()

    said: list[str] = []
    with pytest.raises(UserError, match=r"no answer within the time limit.*--time-limit MINUTES"):
        compile_step(Slow(), target="v5e:4x4", num_devices=16, cache=tmp_path, time_limit=0.05, progress=said.append)
    assert said[0].startswith("Compiling the training step for v5e:4x4; this usually takes")
    assert "(--time-limit)" in said[0]
    assert list(tmp_path.iterdir()) == []
    never.set()


def test_an_answer_that_cannot_be_kept_is_still_given(
    virtual_slice: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answer = CompiledStep(fits=False, needed_bytes=1, limit_bytes=1)
    monkeypatch.setattr(compiled_module, "_compile", lambda *_: answer)
    (tmp_path / "file").touch()
    plan = make_plan(experiment(), "v5e-8", num_speakers=SPEAKERS, cache=tmp_path / "file" / "plans")
    assert plan.step == answer
    assert "cannot be cached for the next plan" in caplog.text


def test_remedies_begin_with_the_largest_class() -> None:
    none: dict[str, Any] = {"padding": None, "outputs": None, "code": None, "batch": 0, "other": 0}
    needs_activations = Memory(
        **none, network=GIB, head=GIB, optimizer=2 * GIB, temporaries=30 * GIB, needed=34 * GIB, capacity=16 * GIB
    )
    config = tiny_config({})
    first, *_ = list_remedies(needs_activations, config, logits_bytes=0)
    assert first.startswith("activations and temporaries (30.00 GiB): model.rematerialize=true")
    assert "optimizer.accumulate=2" in first
    first, *_ = list_remedies(needs_activations, config, logits_bytes=20 * GIB)
    assert "mesh.class_chunk=4096" in first

    needs_head = Memory(
        **none, network=GIB, head=9 * GIB, optimizer=19 * GIB, temporaries=GIB, needed=30 * GIB, capacity=16 * GIB
    )
    ways = list_remedies(needs_head, with_overrides(config, ["mesh.model=4"]), logits_bytes=0)
    assert [way.partition(" (")[0] for way in ways] == [
        "optimizer state",
        "the head's prototypes and their optimizer state",
        "activations and temporaries",
    ]
    assert "optimizer.name=sgd" in ways[0]
    assert "mesh.model=8" in ways[1]


@pytest.mark.parametrize("field", ["needed_bytes", "temporary_bytes"])
def test_a_plan_that_does_not_fit_says_so(virtual_slice: None, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    too_large = CompiledStep(
        **{"fits": False, "needed_bytes": 0, "limit_bytes": int(15.75 * GIB), field: int(35.5 * GIB)}
    )
    monkeypatch.setattr(plan_module, "compile_step", lambda *_, **__: too_large)
    text = format_plan(make_plan(experiment(), "v5e-8", num_speakers=SPEAKERS, one_chip=True))
    assert "needs 35.50 GiB, the compiler may use 15.75 GiB" in text
    assert "Does not fit. Largest first:\n  - activations and temporaries (35.50 GiB): " in text
    assert "utterances/s" not in text


def test_the_time_of_a_step_by_hand() -> None:
    chip = CHIPS["v5e"]
    step = CompiledStep(fits=True, needed_bytes=0, matrix_flops=197e10, hbm_bytes=819 * 10**7, cycles=30_000_000)

    def traffic(seconds: float, overlaps: bool) -> Traffic:
        return Traffic("all-reduce", 4, overlaps, 1, 0, 0.0, seconds)

    time = compute_step_time(step, [traffic(2e-3, False), traffic(3e-3, False), traffic(12e-3, True)], chip)
    assert time == StepTime(compute=0.01, memory=0.01, cycles=0.02, exposed=0.005, overlapped=0.012)
    np.testing.assert_allclose(time.bound, 0.012 + 0.005)  # the overlapped collectives take longer than the arithmetic
    np.testing.assert_allclose(time.estimate, 0.02 + 0.005)
    np.testing.assert_allclose(time.efficiency, 0.02 / 0.025)


def test_the_size_of_the_corpus_comes_from_the_user_or_the_shards(tmp_path: Path) -> None:
    config = tiny_config({})
    assert find_corpus_size(config.data, 17_982, 96) == (17_982, 96)
    write_tiny_shards(tmp_path / "train", speakers=3, utterances=2)
    shards = with_overrides(config, [f"data.train={tmp_path / 'train'}"]).data
    assert find_corpus_size(shards, None, None) == (3, 6)
    assert find_corpus_size(shards, 100, None) == (100, 6)


@pytest.mark.parametrize(
    ("train", "speakers", "words"),
    [
        ("", None, "data.train is empty. Give it as --speakers"),
        ("nowhere/train", None, "data.train=nowhere/train does not exist here. Give it as --speakers"),
        ("", 1, "--speakers=1: a head needs at least two classes"),
    ],
)
def test_a_corpus_of_unknown_size_is_refused(train: str, speakers: int | None, words: str) -> None:
    config = with_overrides(tiny_config({}), [f"data.train={train}"]) if train else tiny_config({})
    with pytest.raises(UserError) as error:
        find_corpus_size(config.data, speakers, None)
    assert words in str(error.value)


def test_a_batch_that_does_not_divide_by_the_slice_is_refused(virtual_slice: None) -> None:
    with pytest.raises(UserError, match="batch_size=12 does not divide by the 8 devices"):
        make_plan(with_overrides(experiment(), ["data.batch_size=12"]), "v5e-8", num_speakers=SPEAKERS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["data.batch_size=8"], "data.batch_size=8 over 8 chips makes 1 example, and .* give e.g. data.batch_size=16"),
        (
            ["data.batch_size=24", "model.batch_norm_groups=4"],
            "data.batch_size=24 over 8 chips makes 3 examples, and .*batch_norm_groups=4, .* data.batch_size=64",
        ),
        (
            ["data.batch_size=32", "model.batch_norm_groups=4"],
            "data.batch_size=32 over 8 chips makes 4 examples, and .*batch_norm_groups=4, .* data.batch_size=64",
        ),
        (["optimizer.accumulate=2"], "data.batch_size=16 over 8 chips in 2 parts makes 1 example, and .*=32"),
    ],
)
def test_a_share_that_is_no_batch_for_one_chip_is_refused_before_the_compilation(
    options: list[str], words: str, virtual_slice: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiles(*_: object, **__: object) -> None:
        pytest.fail("the check comes first")

    monkeypatch.setattr(plan_module, "compile_step", compiles)
    with pytest.raises(UserError, match=rf"^One chip alone \(--one-chip\) cannot train with .* {words}\.$"):
        make_plan(with_overrides(experiment(), options), "v5e-8", num_speakers=SPEAKERS, one_chip=True)


def test_without_the_compiler_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(
        UserError, match=r"needs no TPU.*libtpu, of the extra 'plan'\. In a clone .*pip install '\.\[plan\]'"
    ):
        make_plan(experiment(), "v5e-8", num_speakers=SPEAKERS)


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler, the package libtpu"
)


@pytest.mark.slow
@needs_libtpu
def test_the_tpu_compiler_says_when_a_step_does_not_fit() -> None:
    config = with_overrides(tiny_config({}), ["data.batch_size=400000", "data.crop_frames=2000"])
    plan = make_plan(config, "v5e-4", num_speakers=8)
    assert not plan.fits
    assert plan.memory.needed > plan.memory.capacity == 15.75 * GIB
    assert plan.remedies[0].startswith("activations and temporaries (")


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize(("name", "chips"), [("v5e-8", 8), ("v4-8", 4)])
def test_the_step_compiles_for_a_tpu(name: str, chips: int) -> None:
    config = with_overrides(experiment(), ["mesh.data=-1", "mesh.class_chunk=64"])
    plan = make_plan(config, name, num_speakers=SPEAKERS)
    assert plan.mesh == {"data": chips // 2, "model": 2}
    assert plan.fits
    assert plan.step.cycles > 0
    assert plan.step.unknown_loops == 0  # the chunked head's loops are understood
    assert plan.time is not None
    assert plan.time.estimate >= plan.time.bound > 0
    assert len(topology_devices(plan.topology)) == chips
    assert plan.memory.padding is not None
    assert plan.memory.padding >= 0
