"""No command replaces what it reads, a file that a run keeps in its work directory, or a file of shards."""

import re

import pytest
from click.testing import CliRunner

from mqmha_jax.cli import main
from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import write_sealed_json
from mqmha_jax.runs.run_files import check_output_file
from mqmha_jax.store.files import Network, lock_store, write_state
from mqmha_jax.store.roster import EMPTY
from tests.support.paths import ROOT

KEPT = [
    "config.json",
    "./config.json",
    "checkpoints/../data.json",
    "metrics.jsonl",
    "threshold-100.json",
    "calibration-100.json",
    "mean_embedding-100.npz",
    "checkpoints/100/mqmha.json",
    "checkpoints/100/arrays/new",
    "checkpoints/0/mqmha.json",
    "checkpoints/best.onnx",
    "code/own.py",
]
FREE = [
    "network.onnx",
    "threshold.txt",
    "threshold-100.json.bak",
    "evaluation/config.json",
    "export/threshold-100.json",
]


@pytest.fixture
def run(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "100").mkdir(parents=True)
    for name in ("config.json", "threshold-100.json"):
        (run / name).write_text("{}")
    return run


@pytest.mark.parametrize("name", KEPT)
def test_a_file_of_a_run_is_no_output(run, name):
    before = sorted(run.rglob("*"))
    with pytest.raises(UserError, match=r"is a file of the run .*run, which this would destroy. Give another output."):
        check_output_file(run / name)
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("name", FREE)
def test_other_names_in_a_run_are_free(run, name):
    check_output_file(run / name)


@pytest.mark.parametrize("name", ["config.json", "code/model.onnx", "checkpoints/best.onnx"])
def test_a_directory_of_another_program_is_no_run(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    check_output_file(tmp_path / name)


def test_a_run_before_its_first_checkpoint_is_safe(tmp_path):
    for name in ("config.json", "data.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match="is a file of the run"):
        check_output_file(tmp_path / "config.json")


def test_the_run_that_is_reached_through_a_link_is_safe(run, tmp_path):
    (tmp_path / "link").symlink_to(run)
    (tmp_path / "out.json").symlink_to(run / "config.json")
    for path in (tmp_path / "link" / "config.json", tmp_path / "out.json"):
        with pytest.raises(UserError, match="is a file of the run"):
            check_output_file(path)


@pytest.mark.parametrize(
    "command",
    [
        ["embed", "{run}", "{run}/a.wav", "--output", "{run}/config.json"],
        *(
            ["export", "{run}", "--output", "{run}/" + name, "--format", file_format]
            for file_format in ("3dspeaker", "safetensors", "onnx", "stablehlo")
            for name in ("config.json", "./config.json", "checkpoints/0/mqmha.json", "threshold-100.json")
        ),
        ["prep", "room-table", "{run}", "{run}/config.json"],
        ["prep", "manifest", "folder", "{run}", "{run}/config.json"],
        ["make-trials", "{run}/shards", "{run}/config.json"],
        ["import-trials", "voxceleb", "{run}/config.json", "{run}/config.json"],
        ["plan", "demo", "--topology", "v5e-16", "--json", "{run}/config.json"],
        ["identify", "{run}/store", "{run}/a.wav", "--windows", "1.5,0.75", "--rttm", "{run}/config.json"],
    ],
    ids=" ".join,
)
def test_every_command_refuses_before_it_works(run, command):
    (run / "a.wav").write_bytes(b"")
    result = CliRunner().invoke(main, [word.format(run=run) for word in command])
    assert result.exit_code == 1, result.output
    assert "is a file of the run" in result.output
    assert (run / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    "command",
    [
        ["embed", "{run}", "{folder}/a.wav", "--output", "{folder}/a.wav"],
        ["embed", "{run}", "{folder}", "--output", "{folder}/a.wav"],
        ["prep", "manifest", "csv", "{folder}/list.csv", "{folder}/list.csv"],
        ["import-trials", "voxceleb", "{folder}/list.csv", "{folder}/list.csv"],
        ["make-trials", "{folder}/list.csv", "{folder}/list.csv"],
        ["identify", "{run}/store", "{folder}/a.wav", "--windows", "1.5,0.75", "--rttm", "{folder}/a.wav"],
    ],
    ids=" ".join,
)
def test_no_command_replaces_its_input(run, tmp_path, command):
    folder = tmp_path / "input"
    folder.mkdir()
    before = {"a.wav": b"a recording", "list.csv": b"path,speaker\na.wav,a\n"}
    for name, content in before.items():
        (folder / name).write_bytes(content)
    result = CliRunner().invoke(main, [word.format(run=run, folder=folder) for word in command])
    assert result.exit_code == 1, result.output
    assert "is an input, which this would destroy. Give another output." in result.output
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "name",
    ["shards.json", "utterances.npz", "features.json", "doubtful.jsonl", "fbank-train.array_record-00000-of-00001"],
)
def test_a_file_of_shards_is_no_output(tmp_path, name):
    check_output_file(tmp_path / name)
    (tmp_path / "shards.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"is a file of the shards in .*, which this would destroy\. Give another output"
    ):
        check_output_file(tmp_path / name)
    check_output_file(tmp_path / "eval.trials")


@pytest.mark.parametrize("name", ["store.json", ".lock", "recordings-1.npz", "vectors-1.npy"])
def test_a_file_of_a_store_is_no_output(tmp_path, name):
    network = Network("0" * 64, 4, FbankSpec(), "net", "", -1)
    (tmp_path / "people").mkdir()
    write_state(tmp_path / "people", 1, network, EMPTY, [])
    with lock_store(tmp_path / "people"):
        kept = {path.name: path.read_bytes() for path in (tmp_path / "people").iterdir()}
    assert name in kept
    with pytest.raises(
        UserError, match=r"is a file of the store .*people, which this would destroy\. Give another output"
    ):
        check_output_file(tmp_path / "people" / name)
    assert {path.name: path.read_bytes() for path in (tmp_path / "people").iterdir()} == kept
    check_output_file(tmp_path / "people" / "meeting.rttm")
    check_output_file(tmp_path / name)
    (tmp_path / "store.json").write_text("{}")  # of another program
    check_output_file(tmp_path / name)


@pytest.mark.parametrize("name", ["metrics.json", "stress.json"])
def test_the_numbers_of_another_command_are_no_output(tmp_path, name):
    (tmp_path / name).write_text("{}")
    check_output_file(tmp_path / name)
    write_sealed_json(tmp_path / name, {"lists": {}})
    with pytest.raises(UserError, match=rf"{name} holds numbers that an earlier command keeps there, which this would"):
        check_output_file(tmp_path / name)


def test_no_command_checks_an_output_file_in_another_way():
    sources = [path for package in ("mqmha_jax", "data_prep") for path in (ROOT / package).rglob("*.py")]
    calling = {path.name for path in sources if re.search(r"\bcheck_writable\(", path.read_text())}
    assert calling == {"atomic.py", "run_files.py"}
