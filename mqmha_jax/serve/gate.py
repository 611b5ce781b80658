"""Decides which requests reach the application, by origin, size and number.

A server on the loopback interface is open to every page that its user's browser shows. A page of another site cannot
read the answers (there are no CORS headers), but it can send forms, which browsers mark with an ``Origin``. After DNS
rebinding it is no other site to the browser, but its requests still name the attacker's host. So a request must name
this server as its host, and its origin, if it has one, must be this server.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mqmha_jax.errors import printable
from mqmha_jax.serve.limits import Limits

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

RETRY_AFTER_S = 1


class Gate:
    """ASGI middleware that refuses foreign, oversized and surplus requests, and adds the security headers."""

    def __init__(self, app: ASGIApp, *, limits: Limits, host_names: Iterable[str] = ()) -> None:
        """Wraps an application.

        Args:
          app: the application.
          limits: of requests.
          host_names: names that clients may call this server; localhost and every IP address are always allowed,
            because DNS rebinding needs a name.
        """
        self._app = app
        self._limits = limits
        self._host_names = {"localhost", *(name.lower() for name in host_names)}
        self._num_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lets the application answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        upload = _Upload(receive, self._limits)
        refusal = self._refusal(scope)
        if refusal:
            if "expect" not in Headers(scope=scope):  # such a client sends its body only when asked
                await upload.discard()
            await refusal(scope, receive, send_with_headers)
            return
        self._num_running += _is_counted(scope)
        try:
            await self._app(scope, upload.receive, send_with_headers)
        finally:
            self._num_running -= _is_counted(scope)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that the application must not see; None: it may."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return refuse(
                421,
                f"This server is not called {printable(host)!r}. Use its IP address or localhost, or start it with "
                "--allow-host NAME.",
            )
        origin = headers.get("origin")
        if origin is not None and not _is_page_of(origin, host):
            return refuse(
                403,
                f"The request comes from a page of {printable(origin)}, and this server answers its own pages alone. "
                "A proxy in between must pass the Host header on.",
            )
        if not _is_counted(scope):
            return None
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.max_bytes:
            return refuse(413, _too_large(self._limits))
        if self._num_running >= self._limits.max_requests:
            return refuse(
                503,
                f"The server is busy with {self._num_running} requests; send this one again in {RETRY_AFTER_S} s.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._host_names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


class _Upload:
    """The body of a request while it arrives, within the limits."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._num_bytes = 0
        self._is_complete = False
        self._deadline = asyncio.get_running_loop().time() + limits.upload_s

    async def receive(self) -> Message:
        """The next message; the exceptions reach the application's handler, also through its parsers."""
        if self._is_complete:  # only the end of the connection can come, and may take its time
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            sentence = f"The request did not arrive within {self._limits.upload_s:g} s; send less, or try again."
            raise HTTPException(408, sentence) from error
        self._num_bytes += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._num_bytes > self._limits.max_bytes:
            self._num_bytes = 0  # the rest is discarded
            await self.discard()
            raise HTTPException(413, _too_large(self._limits))
        return message

    async def discard(self) -> None:
        """Reads the rest and keeps nothing: most clients read no answer before they have sent all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._deadline):
                while not self._is_complete:
                    self._is_complete = not (await self._receive()).get("more_body", False)


def refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer that says why there is no other."""
    return JSONResponse({"error": sentence}, status, headers)


def _is_page_of(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # no URL, such as "http://["
        return False


def _is_counted(scope: Scope) -> bool:
    return scope["method"] not in ("GET", "HEAD")


def _too_large(limits: Limits) -> str:
    return (
        f"The request is larger than {limits.max_bytes / (1 << 20):g} MiB, the limit of this server. Send a shorter "
        "recording, or one in a compressed format such as Opus or MP3."
    )
