"""Runs the server until it is told to stop."""

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator, Sequence

import uvicorn

from mqmha_jax.errors import UserError
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.interrupts import handle_signals
from mqmha_jax.say import Say
from mqmha_jax.serve.app import make_app
from mqmha_jax.serve.limits import Limits
from mqmha_jax.store.speaker_store import SpeakerStore

LAST_REQUESTS_S = 120
"""After SIGTERM, requests that have arrived may take this many seconds."""


def serve(
    encoder: SpeakerEncoder,
    store: SpeakerStore | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    host_names: Sequence[str] = (),
    say: Say = print,
) -> None:
    """Answers requests until SIGTERM or SIGINT; then accepts no more, and ends after answering those that have arrived.

    Args:
      encoder: the network.
      store: of the enrolled speakers, made with this network; None: nobody can be enrolled or identified.
      host: address to listen on.
      port: to listen on; 0: a free one.
      limits: of requests.
      host_names: names that clients may call the server, besides localhost and IP addresses.
      say: called with each line for the user.

    Raises:
      UserError: the address cannot be used.
    """
    listening = _listen(host, port)
    if not ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
        say(
            f"Warning: other machines can reach this server at {host}, and it has no passwords. Anyone who reaches it "
            "can use it, and browsers allow the microphone only over https; see docs/serve.md for a proxy."
        )
    app = make_app(encoder, store, limits=limits, host_names=host_names)
    config = uvicorn.Config(
        app, lifespan="on", ws="none", log_level="warning", access_log=False, server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=LAST_REQUESTS_S,
    )  # fmt: skip
    address = f"[{host}]" if ":" in host else host
    say(f"Serving at http://{address}:{listening.getsockname()[1]} (Ctrl+C stops it)")
    with _ending_with_interrupt():
        uvicorn.Server(config).run(sockets=[listening])


@contextlib.contextmanager
def _ending_with_interrupt() -> Iterator[None]:
    """Lets SIGINT raise KeyboardInterrupt, which uvicorn passes on when all is answered; that is an orderly end."""
    with handle_signals([signal.SIGINT], signal.default_int_handler), contextlib.suppress(KeyboardInterrupt):
        yield


def _listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections, so that no request is lost between the printed address and the start."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except UnicodeError as error:  # of Python's encoding of host names, before any name server is asked
        raise UserError(
            f"Cannot listen on {host!r}: no host can have this name. Give --host an address such as 127.0.0.1, or a "
            "name of this machine; its parts between dots have 1 to 63 characters."
        ) from error
    except OSError as error:
        raise UserError(
            f"Cannot listen on {host}, port {port} ({error.strerror}). Choose another --port (0: a free one) or --host."
        ) from error
