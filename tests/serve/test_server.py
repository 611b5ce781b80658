"""The server stops without losing what has arrived, and says what it cannot do."""

import dataclasses
import re
import sys
import threading
import time

import httpx2
import pytest
import uvicorn
from click.testing import CliRunner

from mqmha_jax.cli import main
from mqmha_jax.data.batch_plan import MAX_FRAMES, padded_lengths
from mqmha_jax.errors import UserError
from mqmha_jax.features.fbank import num_frames
from mqmha_jax.serve.app import make_app
from mqmha_jax.serve.server import serve
from mqmha_jax.serve.warm_up import LONGEST_S, SHORTEST_S, WarmUp, usual_lengths
from tests.support.processes import wait_until
from tests.support.serving import serve_in_thread, to_wav
from tests.support.voices import CONFIG, RATE_HZ, make_encoder, voice


def test_requests_that_run_are_answered_after_the_stop(monkeypatch):
    encoder, observe, stopped = make_encoder(), make_encoder().observe, threading.Event()

    def observe_after_the_stop(*arguments, **options):
        assert stopped.wait(60)
        return observe(*arguments, **options)

    monkeypatch.setattr(encoder, "observe", observe_after_the_stop)
    files = {"recording": to_wav(voice(1, 100))}
    answers = []
    with serve_in_thread(make_app(encoder, warm=False)) as (url, server):
        clients = [
            threading.Thread(target=lambda: answers.append(httpx2.post(f"{url}/api/embed", files=files, timeout=60)))
            for _ in range(4)
        ]
        for client in clients:
            client.start()
        assert wait_until(lambda: len(server.server_state.tasks) == 4, seconds=60)
        server.should_exit = True  # what SIGTERM sets
        assert wait_until(lambda: not server.servers[0].is_serving(), seconds=60)
        stopped.set()
        for client in clients:
            client.join()
    assert [answer.status_code for answer in answers] == [200] * 4
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)


def test_a_port_in_use_is_a_sentence():
    with serve_in_thread(make_app(make_encoder(), warm=False)) as (url, _):
        port = int(url.rpartition(":")[2])
        with pytest.raises(UserError, match=rf"Cannot listen on 127\.0\.0\.1, port {port} .* Choose another --port"):
            serve(make_encoder(), port=port)


@pytest.mark.parametrize("host", ["..", f"{'x' * 70}.org"])
def test_a_host_that_is_no_name_is_a_sentence(host):
    with pytest.raises(UserError, match=rf"Cannot listen on '{re.escape(host)}': no host can have this name\. Give"):
        serve(make_encoder(), host=host)


@pytest.mark.parametrize(("host", "is_open"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_a_server_that_other_machines_reach_warns(monkeypatch, host, is_open):
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, sockets: sockets[0].close())
    lines = []
    serve(make_encoder(), host=host, port=0, say=lines.append)
    assert [line.startswith("Warning: other machines can reach this server") for line in lines] == [True] * is_open + [
        False
    ]
    assert lines[-1].startswith(f"Serving at http://{host}:")


def test_the_command_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "mqmha_jax.serve.server")
    done = CliRunner().invoke(main, ["serve", "run"])
    assert done.exit_code == 1, done.exception
    assert done.output == (
        "Error: 'mqmha serve' needs the package uvicorn, of the extra 'serve'. In a clone of the project: pip install "
        "'.[serve]'\n"
    )


def test_the_usual_lengths_cover_the_usual_durations_from_the_middle():
    seconds = [length / RATE_HZ for length in usual_lengths(CONFIG.fbank)]
    assert SHORTEST_S <= min(seconds) < 1.2
    assert 13 < max(seconds) <= LONGEST_S + 0.02
    assert 3 < seconds[0] < 5


def test_the_usual_lengths_fill_a_padded_length_where_a_hop_is_no_whole_number_of_samples():
    spec = dataclasses.replace(CONFIG.fbank, sample_rate_hz=11_025, frame_shift_ms=12.5)  # 137.8 samples
    assert {num_frames(length, spec) for length in usual_lengths(spec)} <= set(padded_lengths(MAX_FRAMES).tolist())


def test_warming_up_stops_after_the_program_that_is_compiled(monkeypatch):
    encoder, lengths, compiling = make_encoder(), [], threading.Event()

    def embed(waveform, **_):
        lengths.append(len(waveform))
        compiling.set()
        time.sleep(0.05)

    monkeypatch.setattr(encoder, "embed", embed)
    warm_up = WarmUp(encoder)
    warm_up.start()
    compiling.wait(10)
    warm_up.stop()
    assert lengths == usual_lengths(CONFIG.fbank)[: len(lengths)]
    assert not warm_up.is_complete

    warm_up = WarmUp(encoder)
    monkeypatch.setattr(encoder, "embed", lambda *_, **__: None)
    warm_up.start()
    warm_up._thread.join()
    assert warm_up.is_complete
