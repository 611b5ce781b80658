"""The launchers: linted, dry-run, and run with stand-ins for the trainer, Slurm and gcloud."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import string
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
DOCKERFILES = sorted(LAUNCH.glob("Dockerfile.*"))
TRAINING = ("configs/laptop.py", "--workdir", "runs/a b", "data.train=$HOME/'x'")  # words that need quoting

# A program that notes how it was called, and then behaves as the test says. ``together(n)`` waits for n calls in all,
# so that nothing happens to a process before it is ready for it.
STAND_IN = """
import json, os, pathlib, signal, sys, time
name, here = pathlib.Path(sys.argv[1]).name, pathlib.Path({folder!r})
jax = {{key: value for key, value in os.environ.items() if key.startswith("JAX_") and key != "JAX_PLATFORMS"}}
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
def note(what):  # whole or not at all: others read while this writes
    path = here.parent / f"{{what[0]}}.{{time.time_ns()}}.{{os.getpid()}}"
    path.write_text(json.dumps(what))
    path.rename(here / path.name)
def together(calls):
    while len(list(here.iterdir())) < calls: time.sleep(0.01)
note([name, *sys.argv[2:], jax])
{behaviour}
"""


class Programs:
    """Stand-ins on a search path of their own, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.calls_at = folder / "bin", folder / "calls"
        self.bin.mkdir()
        self.calls_at.mkdir()
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "JAX"))}
        self.environment["PATH"] = f"{self.bin}:{self.environment['PATH']}"

    def add(self, name: str, behaviour: str = "") -> Path:
        path = self.bin / name
        code = STAND_IN.format(folder=str(self.calls_at), behaviour=behaviour)
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS -c {shlex.quote(code)} "$0" "$@"\n')
        path.chmod(0o755)
        return path

    def calls(self) -> list[list]:
        """``[name, *arguments, variables of jax]`` of every call so far, in order of time."""
        paths = sorted(self.calls_at.iterdir(), key=lambda path: int(path.name.split(".")[-2]))
        return [json.loads(path.read_text()) for path in paths]

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", *command],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str | Path, status: int = 0, **environment: str) -> tuple[str, str]:
        process = self.start(*command, **environment)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == status, errors
        return output, errors


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.02)


def shellcheck(*arguments: str | Path, text: str | None = None) -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "shellcheck is missing; the test extra installs it"
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_and_strict(script: Path) -> None:
    shellcheck(script)
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "\nset -euo pipefail\n" in text
    assert "# Prerequisites: " in text
    assert script.name in (LAUNCH / "README.md").read_text()


# --- several processes on one machine -------------------------------------------------------------------------------


def test_local_processes_know_who_they_are(programs: Programs) -> None:
    trainer = programs.add("mqmha")
    programs.run(LAUNCH / "local_processes.sh", "--processes", "2", *TRAINING, MQMHA=str(trainer))
    first, second = sorted(programs.calls(), key=lambda call: call[-1]["JAX_PROCESS_ID"])
    assert first[:-1] == second[:-1] == ["mqmha", "train", "--multi-process", *TRAINING]
    port = first[-1]["JAX_COORDINATOR_ADDRESS"].removeprefix("127.0.0.1:")
    assert 1024 < int(port) < 65536
    shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}
    assert first[-1] == {**shared, "JAX_PROCESS_ID": "0", "JAX_LOCAL_DEVICE_IDS": "0"}
    assert second[-1] == {**shared, "JAX_PROCESS_ID": "1", "JAX_LOCAL_DEVICE_IDS": "1"}


def test_local_dry_run_prints_what_would_run_and_starts_nothing(programs: Programs) -> None:
    trainer = programs.add("mqmha")
    output, _ = programs.run(LAUNCH / "local_processes.sh", "--dry-run", *TRAINING, MQMHA=str(trainer))
    assert programs.calls() == []
    programs.run("-c", output)
    assert [call[:-1] for call in programs.calls()] == [["mqmha", "train", "--multi-process", *TRAINING]] * 2
    assert [call[-1]["JAX_PROCESS_ID"] for call in programs.calls()] == ["0", "1"]


def test_sigterm_reaches_every_local_process(programs: Programs) -> None:
    trainer = programs.add("mqmha", "while not stop: time.sleep(0.01)\nsys.exit(143)")
    process = programs.start(LAUNCH / "local_processes.sh", "--restarts", "3", "c.py", MQMHA=str(trainer))
    wait_until(lambda: len(programs.calls()) == 2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert len(programs.calls()) == 2, "a run that was told to stop must not restart"


def test_a_failed_local_process_ends_the_others(programs: Programs) -> None:
    behaviour = """
together(3)
if os.environ["JAX_PROCESS_ID"] == "1": sys.exit(7)
while not stop: time.sleep(0.01)
note(["ended"])
sys.exit(9)"""
    trainer = programs.add("mqmha", behaviour)
    programs.run(LAUNCH / "local_processes.sh", "--processes", "3", "c.py", MQMHA=str(trainer), status=7)
    assert [call[0] for call in programs.calls()].count("ended") == 2


def test_a_local_process_that_does_not_end_is_killed(programs: Programs) -> None:
    behaviour = "together(2)\nif os.environ['JAX_PROCESS_ID'] == '0': sys.exit(3)\nwhile True: time.sleep(1)"
    trainer = programs.add("mqmha", behaviour)
    programs.run(LAUNCH / "local_processes.sh", "--grace", "1", "c.py", MQMHA=str(trainer), status=3)


def test_local_processes_restart_together_after_a_failure(programs: Programs) -> None:
    """The first attempt and one restart fail, the second restart succeeds; each attempt has its own port."""
    behaviour = "calls = len(list(here.iterdir()))\ntogether(calls + calls % 2)\nsys.exit(0 if calls > 4 else 5)"
    trainer = programs.add("mqmha", behaviour)
    _, errors = programs.run(LAUNCH / "local_processes.sh", "--restarts", "4", "c.py", MQMHA=str(trainer))
    assert len(programs.calls()) == 6
    assert "ended with status 5; restart 2 of 4" in errors
    assert len({call[-1]["JAX_COORDINATOR_ADDRESS"] for call in programs.calls()}) == 3


def test_without_restarts_there_is_one_attempt(programs: Programs) -> None:
    trainer = programs.add("mqmha", "together(2)\nsys.exit(5)")
    programs.run(LAUNCH / "local_processes.sh", "c.py", MQMHA=str(trainer), status=5)
    assert len(programs.calls()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which CONFIG?"),
        (["--processes", "two", "c.py"], "--processes takes a whole number, not 'two'"),
        (["--processes", "0", "c.py"], "--processes takes at least 1"),
        (["--proceses", "2", "c.py"], "unknown option --proceses; --processes N,"),
    ],
)
def test_local_mistakes_are_named(programs: Programs, arguments: list[str], message: str) -> None:
    _, errors = programs.run(LAUNCH / "local_processes.sh", *arguments, MQMHA="true", status=2)
    assert message in errors


def test_a_missing_environment_is_named(programs: Programs) -> None:
    _, errors = programs.run(LAUNCH / "local_processes.sh", "c.py", MQMHA="/nowhere/mqmha", status=2)
    assert "/nowhere/mqmha is not there; make environment makes it" in errors


# --- Slurm ----------------------------------------------------------------------------------------------------------

JOB = {"SLURM_JOB_ID": "42", "SLURM_NTASKS_PER_NODE": "8", "SLURM_GPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "6"}
STEP = ["srun", "--kill-on-bad-exit=1", "--cpus-per-task=6", ".venv/bin/mqmha", "train", "--multi-process", *TRAINING]


def test_slurm_runs_one_process_per_gpu(programs: Programs) -> None:
    programs.add("srun")
    programs.run(LAUNCH / "slurm.sbatch", *TRAINING, **JOB)
    assert [call[:-1] for call in programs.calls()] == [STEP]
    output, _ = programs.run(LAUNCH / "slurm.sbatch", "--dry-run", *TRAINING, **JOB)
    programs.run("-c", output)
    assert [call[:-1] for call in programs.calls()] == [STEP, STEP]
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", (LAUNCH / "slurm.sbatch").read_text(), re.M))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert options["signal"] == "B:USR1@180"
    assert {"requeue", "open-mode"} <= set(options)


def test_slurm_job_saves_and_requeues_before_its_time_limit(programs: Programs) -> None:
    """The tasks are signalled through Slurm (``scancel`` by job, which spares the batch shell), never through srun."""
    programs.add("srun", "while not list(here.glob('scancel.*')): time.sleep(0.01)\nsys.exit(9 if stop else 143)")
    programs.add("scancel")
    programs.add("scontrol")
    process = programs.start(LAUNCH / "slurm.sbatch", "c.py", **JOB)
    wait_until(lambda: len(programs.calls()) == 1)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert [call[:-1] for call in programs.calls()[1:]] == [
        ["scancel", "--signal=TERM", "42"],
        ["scontrol", "requeue", "42"],
    ]


@pytest.mark.parametrize("status", [0, 1])
def test_slurm_job_that_ends_by_itself_is_not_requeued(programs: Programs, status: int) -> None:
    programs.add("srun", f"sys.exit({status})")
    programs.add("scontrol")
    programs.run(LAUNCH / "slurm.sbatch", "c.py", status=status, **JOB)
    assert [call[0] for call in programs.calls()] == ["srun"]


def test_slurm_job_that_was_cancelled_is_not_requeued(programs: Programs) -> None:
    programs.add("srun", "while not list(here.glob('scancel.*')): time.sleep(0.01)\nsys.exit(143)")
    programs.add("scancel")
    programs.add("scontrol")
    process = programs.start(LAUNCH / "slurm.sbatch", "c.py", **JOB)
    wait_until(lambda: len(programs.calls()) == 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert "scontrol" not in [call[0] for call in programs.calls()]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "which CONFIG?"),
        (["c.py"], {}, "this is a batch script: sbatch launch/slurm.sbatch"),
        (["c.py"], {**JOB, "SLURM_NTASKS_PER_NODE": "1"}, "a node has 8 GPUs and 1 tasks; give sbatch the same number"),
    ],
)
def test_slurm_mistakes_are_named(programs: Programs, arguments: list, environment: dict, message: str) -> None:
    programs.add("srun")
    _, errors = programs.run(LAUNCH / "slurm.sbatch", *arguments, status=2, **environment)
    assert message in errors
    assert programs.calls() == []


# --- TPU slices -----------------------------------------------------------------------------------------------------

SLICE = {"TPU_NAME": "pod", "ZONE": "us-west4-a", "ACCELERATOR": "v5litepod-64"}
TPU_VM = ["gcloud", "compute", "tpus", "tpu-vm"]


@pytest.fixture
def pod(programs: Programs) -> Callable[..., list[list[str]]]:
    """Runs tpu_pod.sh with stand-ins for gcloud and git; returns their calls, without git's question for changes."""
    programs.add("gcloud")
    programs.add("git")

    def run(*arguments: str, **environment: str) -> list[list[str]]:
        programs.run(LAUNCH / "tpu_pod.sh", *arguments, **{**SLICE, **environment})
        return [call[:-1] for call in programs.calls() if "status" not in call]

    return run


def test_pod_is_created_with_the_software_of_its_generation(pod: Callable) -> None:
    wanted = ["create", "pod", "--zone=us-west4-a", "--accelerator-type=v5litepod-64", "--version=v2-alpha-tpuv5-lite"]
    assert pod("create", SPOT="1") == [[*TPU_VM, *wanted, "--spot"]]
    assert "--version=v2-alpha-tpuv6e" in pod("create", ACCELERATOR="v6e-16")[-1]
    assert "--version=mine" in pod("create", RUNTIME="mine", ACCELERATOR="v9-8")[-1]
    assert "--spot" not in pod("create")[-1]


def test_pod_setup_copies_the_committed_files_to_all_hosts(pod: Callable, programs: Programs) -> None:
    git, copy, ssh = pod("setup", NFS="10.0.0.2:/a b")
    archive = next(word for word in git if word.startswith("--output=")).removeprefix("--output=")
    assert git == ["git", "-C", str(ROOT), "archive", "--format=tar.gz", f"--output={archive}", "HEAD"]
    assert copy == [*TPU_VM, "scp", archive, "pod:", "--zone=us-west4-a", "--worker=all"]
    assert not Path(archive).parent.exists(), "the archive is removed"
    assert ssh[:-1] == [*TPU_VM, "ssh", "pod", "--zone=us-west4-a", "--worker=all"]
    on_host = ssh[-1].removeprefix("--command=")
    shellcheck("--shell=bash", "-", text=on_host)
    assert "launch/environment.py --extras tpu" in on_host
    assert on_host.endswith("setup_host 10.0.0.2:/a\\ b")


def test_pod_setup_keeps_runs_and_replaces_only_what_it_copied(
    pod: Callable, programs: Programs, tmp_path: Path
) -> None:
    """What the hosts execute is executed here twice, in a home of its own, with the second copy lacking a file."""
    on_host = pod("setup")[-1][-1].removeprefix("--command=")
    for name in ("sudo", "python3"):
        programs.add(name, "sys.stdin.isatty() or sys.stdin.read()" if name == "sudo" else "")
    uv = tmp_path / ".local" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("#!/bin/sh\necho true\n")  # `uv python find` prints a program that succeeds
    uv.chmod(0o755)
    checkout = tmp_path / "mqmha_jax"
    (checkout / "runs" / "a").mkdir(parents=True)
    (checkout / "runs" / "a" / "weights").write_text("weeks of training")

    def setup(**files: str) -> None:
        with tarfile.open(tmp_path / "mqmha_jax.tar.gz", "w:gz") as archive:
            for name, text in files.items():
                entry = tarfile.TarInfo(f"package/{name} file.py")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        done = subprocess.run(
            ["bash", "-c", on_host],
            cwd=tmp_path,
            env={**programs.environment, "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    setup(kept="1", gone="1")
    (checkout / "package" / "notes.txt").write_text("mine")
    setup(kept="2")
    assert (checkout / "runs" / "a" / "weights").read_text() == "weeks of training"
    package = {path.name: path.read_text() for path in (checkout / "package").iterdir()}
    assert package == {"kept file.py": "2", "notes.txt": "mine"}


def test_pod_run_survives_the_connection_and_keeps_every_argument(pod: Callable, programs: Programs) -> None:
    """What the hosts execute is executed here, with a stand-in for sudo and a home of its own."""
    (ssh,) = pod("run", *TRAINING)
    assert ssh[:-1] == [*TPU_VM, "ssh", "pod", "--zone=us-west4-a", "--worker=all"]
    on_host = ssh[-1].removeprefix("--command=")
    shellcheck("--shell=bash", "-", text=on_host)
    programs.add("sudo")
    project = programs.bin.parent / "mqmha_jax"
    project.mkdir()
    programs.run("-c", on_host, HOME=str(project.parent))
    unit = programs.calls()[-1][:-1]
    assert unit[:3] == ["sudo", "systemd-run", "--unit=mqmha"]
    assert unit[-len(TRAINING) - 3 :] == [f"{project}/.venv/bin/mqmha", "train", "--multi-process", *TRAINING]
    assert {
        f"--working-directory={project}",
        f"--uid={os.getuid()}",
        "--property=Restart=on-failure",
        "--property=SuccessExitStatus=143",
        "--property=KillMode=mixed",
        "--property=TimeoutStopSec=180",
    } <= set(unit)


def test_pod_log_stop_and_delete(pod: Callable) -> None:
    where = ["pod", "--zone=us-west4-a"]
    follow = "--command=sudo journalctl --unit=mqmha --lines=200 --follow"
    assert pod("log", WORKER="3")[-1] == [*TPU_VM, "ssh", *where, "--worker=3", follow]
    assert pod("stop")[-1] == [*TPU_VM, "ssh", *where, "--worker=all", "--command=sudo systemctl stop mqmha"]
    assert pod("delete")[-1] == [*TPU_VM, "delete", *where]


def test_pod_resume_makes_the_slice_anew(programs: Programs) -> None:
    """Even where nothing is left to delete."""
    programs.add("gcloud", "sys.exit('delete' in sys.argv)")
    programs.add("git")
    programs.run(LAUNCH / "tpu_pod.sh", "resume", *TRAINING, **SLICE)
    assert [call[4] for call in programs.calls() if call[0] == "gcloud"] == ["delete", "create", "scp", "ssh", "ssh"]


def test_pod_dry_run_prints_what_would_run(pod: Callable, programs: Programs) -> None:
    output, _ = programs.run(LAUNCH / "tpu_pod.sh", "--dry-run", "resume", *TRAINING, **SLICE)
    assert all("status" in call for call in programs.calls()), "only git's question for changes may run"
    programs.run("-c", output)
    printed = [call[:-1] for call in programs.calls() if "status" not in call]
    real = pod("resume", *TRAINING)[len(printed) :]
    temporary = re.compile(r"[^ =]*/mqmha_jax.tar.gz")
    assert [[temporary.sub("ARCHIVE", word) for word in call] for call in printed] == [
        [temporary.sub("ARCHIVE", word) for word in call] for call in real
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["launch"], SLICE, "unknown command 'launch'; valid: create, setup, run,"),
        ([], SLICE, "unknown command ''"),
        (["create"], {"TPU_NAME": "pod"}, "set ZONE, for example"),
        (["create"], {"TPU_NAME": "pod", "ZONE": "z"}, "set ACCELERATOR, for example"),
        (["create"], {**SLICE, "ACCELERATOR": "v9-8"}, "no software version is known for ACCELERATOR=v9-8"),
        (["resume"], SLICE, "which CONFIG? For example: launch/tpu_pod.sh resume"),
    ],
)
def test_pod_mistakes_are_named(programs: Programs, arguments: list, environment: dict, message: str) -> None:
    programs.add("gcloud")
    _, errors = programs.run(LAUNCH / "tpu_pod.sh", *arguments, status=2, **environment)
    assert message in errors
    assert programs.calls() == []


# --- GKE and containers ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jobset() -> dict:
    """The manifest with the values that its head proposes, put in as envsubst does."""
    text = (LAUNCH / "gke_jobset.yaml").read_text()
    values = dict(
        assignment.split("=", 1) for line in re.findall(r"^#   export (.*)$", text, re.M) for assignment in line.split()
    )
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert set(re.findall(r"\$\{(\w+)\}", body)) == set(values), "the head proposes a value for every placeholder"
    return yaml.safe_load(string.Template(body).substitute(values))


def test_jobset_asks_for_a_whole_slice(jobset: dict) -> None:
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated_sharding,) = jobset["spec"]["replicatedJobs"]
    job = replicated_sharding["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert job["parallelism"] == job["completions"] == 4
    assert job["completionMode"] == "Indexed"
    chips = job["parallelism"] * container["resources"]["limits"]["google.com/tpu"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert chips == rows * columns
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-accelerator"] == "tpu-v6e-slice"
    assert "command" not in container, "the image's entry point is the program, which then receives SIGTERM"
    assert container["args"][:4] == ["train", "--multi-process", "configs/voxceleb_resnet34_mqmha.py", "--workdir"]
    assert (ROOT / container["args"][2]).exists()
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(volumes) == set(mounts)
    assert container["args"][4].startswith(mounts["files"] + "/"), "the work directory is on the shared volume"


def test_jobset_restarts_after_preemption_without_counting_it(jobset: dict) -> None:
    (replicated_sharding,) = jobset["spec"]["replicatedJobs"]
    job = replicated_sharding["template"]["spec"]
    pod = job["template"]["spec"]
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert pod["restartPolicy"] == "Never", "a podFailurePolicy allows nothing else"
    assert job["backoffLimit"] == 0
    disrupted, stopped = job["podFailurePolicy"]["rules"]
    assert disrupted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert stopped["onExitCodes"] == {"containerName": pod["containers"][0]["name"], "operator": "In", "values": [143]}
    assert pod["terminationGracePeriodSeconds"] >= 120


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_fit_the_project(path: Path) -> None:
    text = path.read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (image,) = re.findall(r"^FROM (\S+)$", text, re.M)
    name, tag = image.split(":")
    assert name == "python"
    assert tag.split("-")[0] == project["tool"]["mypy"]["python_version"]
    (extra,) = re.findall(r'--editable "\.\[(\w+)\]"', text)
    assert extra in project["project"]["optional-dependencies"]
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY .*$", text, re.M)]
    assert copied[-1] == ["."], "the code comes after what changes seldom"
    assert all((ROOT / name).exists() for names in copied for name in names)
    assert re.search(r"^USER (?!root)", text, re.M)
    assert 'ENTRYPOINT ["mqmha"]' in text
    assert "mqmha" in project["project"]["scripts"]
    assert ":latest" not in text
    assert f"launch/{path.name}" in text


def test_images_get_the_packages_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {"mqmha_jax", "data_prep", "configs"}  # see setup.py
    files = {
        project["project"]["readme"],
        *project["project"]["license-files"],
        "pyproject.toml",
        "setup.py",
        "requirements.txt",
    }
    assert let_in == packages | files


def test_readme_names_every_launcher_and_only_those() -> None:
    linked = set(re.findall(r"\]\(([^)/]+)\)", (LAUNCH / "README.md").read_text()))
    assert linked == {path.name for path in LAUNCH.iterdir() if path.is_file() and path.name != "README.md"}
