"""A server in a thread of the test, on a free port of the loopback interface, and what is sent to it."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile
import uvicorn
from starlette.types import ASGIApp


@contextmanager
def serve_in_thread(app: ASGIApp) -> Iterator[tuple[str, uvicorn.Server]]:
    """Yields the address and the server, which stops as after SIGTERM when its ``should_exit`` is set."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", ws="none", log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join(60)


def to_wav(samples: np.ndarray, rate_hz: int = 16_000, **options: str) -> bytes:
    """Encodes samples ``[n]`` or ``[n, channels]`` as a file in memory."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, **({"format": "WAV", "subtype": "FLOAT"} | options))
    return file.getvalue()
