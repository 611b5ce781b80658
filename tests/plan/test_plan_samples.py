"""The texts of two versions of jax and libtpu, read from disk, against numbers by hand; unreadable ones are named."""

from pathlib import Path
from typing import Any

import pytest

from mqmha_jax.config_io import with_overrides
from mqmha_jax.plan import format_plan
from mqmha_jax.plan import plan as plan_module
from mqmha_jax.plan.compiled import CompiledStep
from mqmha_jax.plan.hlo import HloNotUnderstoodError, parse_hlo
from mqmha_jax.plan.plan import make_plan
from mqmha_jax.plan.report import plan_to_dict
from mqmha_jax.plan.work import count_work
from tests.support.paths import REFERENCE
from tests.support.tiny import tiny_config

SAMPLES = sorted((REFERENCE / "hlo").glob("*.txt"))
DEVICES = 8


def flops_by_hand() -> int:
    """The step of ``make.py`` on one of 4 x 2 chips: a quarter of 16 rows, half of 256 classes."""
    rows = 4
    # Pairs of output and kernel positions inside the image: 13 along the 9 rows (stride 2), 18 along the 7 columns.
    convolution = 2 * rows * 16 * 8 * (13 * 18)
    product, logits = 2 * rows * 16 * 16, 2 * rows * 16 * 128
    # Forward and for the kernel; five steps of a scan forward, for the carry and for the weights; the same for logits.
    return 2 * convolution + 5 * 3 * product + 3 * logits


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_stored_version_is_read_in_full(path: Path) -> None:
    work = count_work(path.read_text(), DEVICES)
    assert "not_understood" not in work
    assert work["matrix_flops"] == flops_by_hand()
    assert work["unknown_loops"] == 0
    assert set(parse_hlo(path.read_text()).runs.values()) == {1, 5}
    assert work["cycles"] > 10_000
    arguments_and_outputs = 200_704 + 87_040  # of the compiler's memory_analysis()
    assert 0.9 * arguments_and_outputs < work["hbm_bytes"] < 2 * arguments_and_outputs
    # Along model: maximum and sum of the log-sum-exp, and the gradient of x; along data: loss and all three gradients.
    groups = sorted((item.members, item.operand_bytes, item.runs) for item in work["collectives"])
    assert groups[:3] == [((0, 1), 4 * 4, 1), ((0, 1), 4 * 4, 1), ((0, 1), 4 * 4 * 16, 1)]
    assert groups[3:] == [((0, 2, 4, 6), 4 * (1 + 3 * 3 * 8 * 16 + 5 * 16 * 16 + 16 * 128), 1)]


def test_two_versions_are_stored() -> None:
    assert len({path.stem for path in SAMPLES}) >= 2


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("  %convolution.12 = ", "  convolution.12: ", "is not an instruction: 'convolution.12: "),
        ("dim_labels=", "labels=", "has no dim_labels"),
        ("replica_groups=mesh[", "replica_groups=rings[", "unreadable groups of a collective"),
        (
            " all-reduce(",
            " ragged-all-to-all(",
            "unknown collective 'ragged-all-to-all'; known: all-reduce, all-gather",
        ),
        ("ENTRY ", "MAIN ", "the text has no entry; it begins with 'HloModule"),
        ("condition=%", "condition=%no_", "has no condition"),
        (" f32[4,5,7,16]{", " number[4,5,7,16]{", "is not an instruction"),
        ("%fusion.30,", "%fusion.999,", "fusion.999"),
    ],
)
def test_a_text_written_otherwise_is_named_and_never_guessed(before: str, after: str, words: str) -> None:
    text = SAMPLES[-1].read_text()
    assert before in text
    work = count_work(text.replace(before, after), DEVICES)
    assert words in work.pop("not_understood")
    assert work == {}


def test_an_error_quotes_the_line() -> None:
    lines = SAMPLES[0].read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if "= f32[4,5,7,16]" in line)
    lines[number] = "  a new kind of line"
    with pytest.raises(HloNotUnderstoodError, match=f"line {number + 1} is not an instruction: 'a new kind of line'"):
        parse_hlo("\n".join(lines))


def test_a_plan_without_times_still_tells_the_memory(virtual_slice: None, monkeypatch: pytest.MonkeyPatch) -> None:
    unread: dict[str, Any] = {"not_understood": "line 7 is not an instruction: '...'", "xla_flops": 2e9}
    step = CompiledStep(fits=True, needed_bytes=2**30, argument_bytes=2**29, temporary_bytes=2**29, **unread)
    monkeypatch.setattr(plan_module, "compile_step", lambda *_, **__: step)
    config = with_overrides(tiny_config({}), ["data.batch_size=16"])
    plan = make_plan(config, "v5e-8", num_speakers=300, one_chip=True)
    text = format_plan(plan)
    assert "activations and temporaries" in text
    assert "Fits: 94% of the memory stays free." in text
    assert "does not understand:\n  line 7 is not an instruction: '...'" in text
    assert "counts 2.0 GFLOP" in text
    assert "utterances/s" not in text
    data = plan_to_dict(plan)
    assert (data["fits"], data["time"], data["one_chip"]) == (True, None, None)
    assert data["step"]["not_understood"] == unread["not_understood"]
