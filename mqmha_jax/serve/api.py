"""The JSON API: each route hands its recordings to the one thread that uses the network."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, UploadFile

from mqmha_jax.serve.answers import Compared, Embedded, Problem, Status
from mqmha_jax.serve.limits import Limits
from mqmha_jax.serve.listener import Listener
from mqmha_jax.serve.recordings import Recording, label
from mqmha_jax.serve.warm_up import WarmUp

Answer = TypeVar("Answer")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "A recording is too long, or the request too large."},
    422: {"model": Problem, "description": "A recording or an option cannot be used."},
    503: {"model": Problem, "description": "Busy; try again after the seconds that Retry-After names."},
}


def make_router(listener: Listener, thread: Executor, limits: Limits, warm_up: WarmUp) -> APIRouter:
    """Makes the routes below ``/api`` that need no enrolled people.

    Args:
      listener: answers.
      thread: where it does so, one request at a time.
      limits: shown by the status.
      warm_up: shown by the status.
    """
    router = APIRouter(prefix="/api")

    async def ask(question: Callable[..., Answer], *arguments: Any) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(thread, partial(question, *arguments))

    @router.get("/status")
    def status() -> Status:
        """Describe the network and the limits."""
        model = listener.encoder.config.model
        return Status(
            network=listener.encoder.name,
            encoder=model.encoder.name,
            pooling=model.pooling.name,
            embedding_dim=model.embedding_dim,
            sample_rate_hz=listener.rate_hz,
            threshold=listener.encoder.threshold,
            calibrated=listener.encoder.calibration is not None,
            warm=warm_up.is_complete,
            max_bytes=limits.max_bytes,
            max_seconds=limits.max_seconds,
            max_requests=limits.max_requests,
        )

    @router.post("/embed", responses=PROBLEMS)
    async def embed(recording: UploadFile) -> Embedded:
        """Embed a recording."""
        return await ask(listener.embed, await read_upload(recording, "recording"))

    @router.post("/verify", responses=PROBLEMS)
    async def verify(first: UploadFile, second: UploadFile) -> Compared:
        """Decide whether two recordings have the same speaker."""
        recordings = [await read_upload(first, "first recording"), await read_upload(second, "second recording")]
        return await ask(listener.compare, *recordings)

    return router


async def read_upload(upload: UploadFile, otherwise: str) -> Recording:
    """The recording of an upload; ``otherwise`` names it if the client does not."""
    return Recording(label(upload.filename, otherwise), await upload.read())
