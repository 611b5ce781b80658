"""The command as an operator runs it: it prints its address, answers, and loses no enrolment when it is stopped."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from mqmha_jax.runs.network_run import write_network_run
from mqmha_jax.store.speaker_store import SpeakerStore
from tests.support.serving import to_wav
from tests.support.voices import CONFIG, make_variables, voice

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    write_network_run(tmp_path / "run", CONFIG, {"imported": "x"}, make_variables(), head={})
    command = [sys.executable, "-m", "mqmha_jax", "serve", "run", "--store", "people", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().split()[2], process
    process.kill()
    process.communicate()


def test_every_enrolment_that_was_answered_before_sigterm_is_in_the_store(
    server: tuple[str, subprocess.Popen[str]], tmp_path: Path
) -> None:
    url, process = server
    answered, lock = set(), threading.Lock()
    recording = to_wav(voice(1.2, 100))

    def enrol(client: int) -> None:
        with httpx2.Client(base_url=url, timeout=120) as connection:
            for number in range(10_000):
                name = f"{client} {number}"
                try:
                    answer = connection.post("/api/speakers", data={"name": name}, files={"recordings": recording})
                except httpx2.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                with lock:
                    answered.add(name)
                    if len(answered) == 20:
                        process.send_signal(signal.SIGTERM)

    clients = [threading.Thread(target=enrol, args=(number,)) for number in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in complaints
    enrolled = {speaker.name for speaker in SpeakerStore.open(tmp_path / "people").list_speakers()}
    assert len(answered) >= 20
    assert answered == enrolled


def test_ctrl_c_is_an_orderly_end(server: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = server
    assert httpx2.get(f"{url}/api/status", timeout=60).status_code == 200
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
