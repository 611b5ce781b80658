"""The gate lets in who calls the server by its name, what fits, and as much as it can bear."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from mqmha_jax.serve.gate import Gate
from mqmha_jax.serve.limits import Limits

LIMITS = Limits(max_bytes=1000, max_requests=2, upload_s=0.2)


async def measure(request: Request) -> JSONResponse:
    return JSONResponse(len(await request.body()))


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = Gate(
        Starlette(routes=[Route("/", measure, methods=["GET", "POST"])]), limits=LIMITS, host_names=["Voice.lan"]
    )
    with TestClient(app, "http://localhost:8000") as client:
        yield client


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.7:80", "voice.lan", "VOICE.LAN:1"]
)
def test_localhost_addresses_and_given_names_are_this_server(client, host):
    assert client.post("/", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["attacker.example", "localhost.attacker.example", "", "127.0.0.1.nip.io", "[", "a@b:c"]
)
def test_another_name_is_refused_as_after_dns_rebinding(client, host):
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.json()["error"].startswith(f"This server is not called {host!r}.")


@pytest.mark.parametrize(
    "origin", ["https://attacker.example", "http://localhost:8001", "null", "http://[", "http://[::1"]
)
def test_pages_of_other_origins_are_refused(client, origin):
    answer = client.post("/", headers={"Origin": origin})
    assert answer.status_code == 403
    assert origin in answer.json()["error"]
    assert "access-control-allow-origin" not in answer.headers
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_no_page_may_read_the_answers(client):
    assert "access-control-allow-origin" not in client.get("/", headers={"Origin": "http://localhost:8000"}).headers


def test_a_request_of_the_limit_fits_and_one_byte_more_does_not(client):
    assert client.post("/", content=b"x" * 1000).json() == 1000
    refused = client.post("/", content=b"x" * 1001)
    assert refused.status_code == 413
    assert "larger than 0.000953674 MiB" in refused.json()["error"]


def test_the_limit_holds_without_an_announced_length(client):
    assert client.post("/", content=iter([b"x" * 600] * 5)).status_code == 413


def test_every_answer_has_the_security_headers(client):
    for answer in (client.get("/"), client.get("/", headers={"Host": "x"}), client.post("/", content=b"x" * 1001)):
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"


async def call(app: Callable, *messages: dict) -> list[dict]:
    """The messages that an application answers to one request."""
    waiting, sent = list(messages), []

    async def receive() -> dict:
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "root_path": ""}
    await app(scope | {"headers": [(b"host", b"localhost")], "scheme": "http"}, receive, send)
    return sent


def test_a_surplus_request_is_told_to_come_again_and_the_others_are_answered():
    async def run() -> tuple[list[dict], list[list[dict]]]:
        release = asyncio.Event()

        async def slow(request: Request) -> JSONResponse:
            await release.wait()
            return JSONResponse("done")

        app = Gate(Starlette(routes=[Route("/", slow, methods=["POST"])]), limits=LIMITS)
        body = {"type": "http.request", "body": b"", "more_body": False}
        running = [asyncio.create_task(call(app, body)) for _ in range(LIMITS.max_requests)]
        await asyncio.sleep(0)
        surplus = await call(app, body)
        release.set()
        answered = await asyncio.gather(*running)
        assert (await call(app, body))[0]["status"] == 200  # there is room again
        return surplus, answered

    surplus, answered = asyncio.run(run())
    assert surplus[0]["status"] == 503
    assert (b"retry-after", b"1") in surplus[0]["headers"]
    assert b"busy with 2 requests" in surplus[1]["body"]
    assert [messages[0]["status"] for messages in answered] == [200, 200]


def test_a_request_that_does_not_arrive_makes_room():
    async def run() -> list[dict]:
        app = Gate(Starlette(routes=[Route("/", measure, methods=["POST"])]), limits=LIMITS)
        return await call(app, {"type": "http.request", "body": b"x", "more_body": True})

    assert asyncio.run(run())[0]["status"] == 408
