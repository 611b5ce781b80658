"""Apache Beam makes the same files as one process; runs where Beam is installed: make test-beam."""

import sys
from pathlib import Path

import pytest

from data_prep.beam_job import beam_run
from data_prep.build_shards import build_shards
from mqmha_jax.errors import UserError
from tests.support.prep_jobs import MEGABYTES, SPEC, checksums, corpus

OPTIONS = {"spec": SPEC, "provenance": {"corpus": "test"}, "max_rejected": 0, "progress": False, "num_workers": 0}


def test_without_beam_its_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"--beam needs Apache Beam .*requirements-beam.txt"):
        beam_run("--runner=DirectRunner")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Beam has some of its own
def test_the_direct_runner_writes_the_same_bytes_and_resumes(tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason="needs Apache Beam, which has an environment of its own: make test-beam")
    recordings = corpus("noise", 5)
    build_shards(recordings, tmp_path / "local", shard_megabytes=MEGABYTES, **OPTIONS)
    build_shards(recordings, tmp_path / "beam", shard_megabytes=MEGABYTES, shard_range="0:2", **OPTIONS)
    run = beam_run("--runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=2")
    build_shards(recordings, tmp_path / "beam", shard_megabytes=MEGABYTES, run=run, **OPTIONS)
    assert len(list((tmp_path / "beam").glob("*.array_record*"))) == 5
    assert checksums(tmp_path / "beam") == checksums(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_failure_in_a_worker_gets_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason="needs Apache Beam, which has an environment of its own: make test-beam")
    recordings = corpus("noise", 2)
    recordings[1] = recordings[1]._replace(attributes={"speed": "walking"})
    with pytest.raises(UserError, match=r"Beam pipeline failed; finished parts stay.*column 'speed'"):
        build_shards(recordings, tmp_path / "out", run=beam_run("--runner=DirectRunner"), **OPTIONS)
