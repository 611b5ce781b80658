"""Asks a server by several clients at a time: requests a second, waiting times, memory, and what SIGTERM loses.

    python benchmarks/serve_load.py RUN RECORDINGS [--clients 8] [--requests 2000]

The server is another process of this machine. The clients send recordings of 3 s to embed, to verify and to identify,
in turns. At the end they enrol speakers while the server gets SIGTERM; the store must hold all speakers whose enrolment
was answered.
"""

import argparse
import http.client
import io
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import record
import soundfile

from mqmha_jax.features.audio import read_audio
from mqmha_jax.features.audio_folder import audio_files

RATE_HZ, SECONDS = 16_000, 3
Server = subprocess.Popen[str]


class Client:
    """One connection to the server."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(self._address, timeout=600)

    def get(self, path: str) -> Any:
        self._connection.request("GET", path)
        return json.load(self._connection.getresponse())

    def post(self, path: str, files: Mapping[str, bytes], **fields: str) -> int:
        """Sends a form and returns the status of the answer."""
        boundary = uuid.uuid4().hex
        parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
        parts += [(f'name="{name}"; filename="{name}.wav"', content) for name, content in files.items()]
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
            for head, content in parts
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        self._connection.request("POST", path, body + f"--{boundary}--\r\n".encode(), kind)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


def cut_recordings(folder: Path, count: int) -> list[bytes]:
    """The first seconds of recordings that are long enough, as WAV files."""
    cut = []
    for path in audio_files(folder):
        samples = read_audio(path, RATE_HZ)[: SECONDS * RATE_HZ]
        if len(samples) == SECONDS * RATE_HZ:
            file = io.BytesIO()
            soundfile.write(file, samples, RATE_HZ, format="WAV", subtype="PCM_16")
            cut.append(file.getvalue())
        if len(cut) == count:
            break
    return cut


def ask_in_turns(client: Client, recordings: list[bytes], number: int) -> tuple[str, int]:
    """Sends the request of this number; returns its kind and the status of the answer."""
    kind = ("embed", "verify", "identify")[number % 3]
    one, other = (recordings[(number + i) % len(recordings)] for i in range(2))
    files = {"first": one, "second": other} if kind == "verify" else {"recording": one}
    return kind, client.post(f"/api/{kind}", files)


def load(url: str, recordings: list[bytes], num_clients: int, numbers: Iterator[int]) -> dict[str, list[float]]:
    """Lets the clients send the requests of these numbers; returns the seconds of each kind."""
    waits: dict[str, list[float]] = {}
    lock = threading.Lock()

    def run() -> None:
        client = Client(url)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            start = time.perf_counter()
            kind, status = ask_in_turns(client, recordings, number)
            seconds = time.perf_counter() - start
            with lock:
                waits.setdefault(kind if status == 200 else f"status {status}", []).append(seconds)

    in_threads(num_clients, run)
    return waits


def enrol_until_stopped(
    url: str, recordings: list[bytes], num_clients: int, process: subprocess.Popen[str]
) -> set[str]:
    """Enrols new speakers until the server is gone; returns the names whose enrolment was answered."""
    answered: set[str] = set()
    numbers = itertools.count()

    def run() -> None:
        client = Client(url)
        while True:
            number = next(numbers)
            try:
                status = client.post("/api/speakers", {"recordings": recordings[number % 7]}, name=f"speaker {number}")
            except (OSError, http.client.HTTPException):
                return
            if status == 200:
                answered.add(f"speaker {number}")

    stopper = threading.Timer(5, process.send_signal, [signal.SIGTERM])
    stopper.start()
    in_threads(num_clients, run)
    process.wait()
    return answered


def in_threads(count: int, run: Any) -> None:
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def memory_mb(process: Server) -> float:
    (line,) = (line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmRSS" in line)
    return round(int(line.split()[1]) / 1024, 1)


def describe_waits(waits: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(waits, n=100)
    return {
        "count": len(waits),
        "p50_s": round(cuts[49], 3),
        "p99_s": round(cuts[98], 3),
        "max_s": round(max(waits), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run to serve")
    parser.add_argument("recordings", type=Path, help="folder of recordings")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args()
    recordings = cut_recordings(options.recordings, 40)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        command = [sys.executable, "-m", "mqmha_jax", "serve", str(options.run), "--store", str(store), "--port", "0"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]
        client = Client(url)
        client.get("/api/status")
        figures: dict[str, Any] = {
            "network": client.get("/api/status")["encoder"],
            "clients": options.clients,
            "seconds_to_serve": round(time.perf_counter() - start, 1),
        }
        while not client.get("/api/status")["warm"]:
            time.sleep(0.5)
        figures["seconds_to_warm"] = round(time.perf_counter() - start, 1)
        for number in range(5):
            assert client.post("/api/speakers", {"recordings": recordings[number]}, name=f"first {number}") == 200
        load(url, recordings, options.clients, iter(range(options.requests // 10)))
        figures["memory_mb_before"] = memory_mb(process)
        start = time.perf_counter()
        waits = load(url, recordings, options.clients, iter(range(options.requests)))
        seconds = time.perf_counter() - start
        figures["memory_mb_after"] = memory_mb(process)
        figures["requests_per_second"] = round(options.requests / seconds, 2)
        figures["requests"] = {kind: describe_waits(times) for kind, times in waits.items()}
        answered = enrol_until_stopped(url, recordings, options.clients, process)
        listed = subprocess.run(
            [sys.executable, "-m", "mqmha_jax", "store", "list", str(store), "--json"], capture_output=True, text=True
        )
        enrolled = {speaker["name"] for speaker in json.loads(listed.stdout)} - {f"first {i}" for i in range(5)}
        figures["enrolments_answered"] = len(answered)
        figures["enrolments_lost"] = len(answered - enrolled)
        figures["enrolments_unanswered"] = len(enrolled - answered)
        figures["exit_status"] = process.returncode
    print(json.dumps(figures, indent=2))
    record.keep("serve_load", figures)


if __name__ == "__main__":
    main()
