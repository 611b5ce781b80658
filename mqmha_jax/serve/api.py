"""The JSON API: each route hands its recordings to the one thread that uses the network."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, File, Form, Query, UploadFile

from mqmha_jax.serve.answers import Compared, Embedded, Enrolled, Identified, Problem, Status
from mqmha_jax.serve.limits import Limits
from mqmha_jax.serve.listener import Listener
from mqmha_jax.serve.recordings import Recording, label
from mqmha_jax.serve.warm_up import WarmUp
from mqmha_jax.store.speaker_store import SpeakerStore

Answer = TypeVar("Answer")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "A recording is too long, or the request too large."},
    422: {"model": Problem, "description": "A recording or an option cannot be used."},
    503: {"model": Problem, "description": "Busy; try again after the seconds that Retry-After names."},
}


class Desk:
    """Hands questions to the one thread that uses the network, in the order in which they come."""

    def __init__(self, listener: Listener, thread: Executor) -> None:
        """Takes who answers, and where."""
        self.listener, self._thread = listener, thread

    async def ask(self, question: Callable[..., Answer], *arguments: Any) -> Answer:
        """The answer to a question."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(question, *arguments))


def make_router(desk: Desk, limits: Limits, warm_up: WarmUp, store: SpeakerStore | None) -> APIRouter:
    """Makes the routes below ``/api`` that need no store.

    Args:
      desk: takes the questions.
      limits, warm_up, store: shown by the status.
    """
    router = APIRouter(prefix="/api")
    listener, encoder = desk.listener, desk.listener.encoder

    @router.get("/status")
    def status() -> Status:
        """Describe the network and the limits."""
        model = encoder.config.model
        return Status(
            network=encoder.name,
            encoder=model.encoder.name,
            pooling=model.pooling.name,
            embedding_dim=model.embedding_dim,
            sample_rate_hz=listener.rate_hz,
            threshold=encoder.threshold,
            calibrated=encoder.calibration is not None,
            num_speakers=None if store is None else len(store),
            warm=warm_up.is_complete,
            max_bytes=limits.max_bytes,
            max_seconds=limits.max_seconds,
            max_requests=limits.max_requests,
        )

    @router.post("/embed", responses=PROBLEMS)
    async def embed(recording: UploadFile) -> Embedded:
        """Embed a recording."""
        return await desk.ask(listener.embed, await read_upload(recording, "recording"))

    @router.post("/verify", responses=PROBLEMS)
    async def verify(first: UploadFile, second: UploadFile) -> Compared:
        """Decide whether two recordings have the same speaker."""
        recordings = [await read_upload(first, "first recording"), await read_upload(second, "second recording")]
        return await desk.ask(listener.compare, *recordings)

    return router


def make_store_router(desk: Desk, store: SpeakerStore) -> APIRouter:
    """Makes the routes below ``/api`` that use a store.

    Args:
      desk: takes the questions.
      store: of the enrolled speakers.
    """
    router = APIRouter(prefix="/api", responses=PROBLEMS)
    listener = desk.listener

    @router.get("/speakers")
    async def speakers(
        limit: Annotated[int, Query(ge=1, description="Maximum number of speakers.")] = 1000,
    ) -> list[Enrolled]:
        """List the enrolled speakers, in the order in which they were first enrolled."""
        return [Enrolled.of(speaker) for speaker in (await desk.ask(store.list_speakers))[:limit]]

    @router.post("/speakers")
    async def enrol(
        name: Annotated[str, Form(description="Of the speaker; recordings are added to one who is enrolled.")],
        recordings: Annotated[list[UploadFile], File(description="Audio files; all are enrolled, or none.")],
    ) -> Enrolled:
        """Enrol a speaker, or add recordings to one."""
        uploads = [await read_upload(one, f"recording {i}") for i, one in enumerate(recordings, 1)]
        return await desk.ask(listener.enrol, store, name, uploads)

    @router.delete("/speakers", status_code=204)
    async def remove(name: Annotated[str, Query(description="Of the speaker.")]) -> None:
        """Remove a speaker with all recordings."""
        await desk.ask(store.remove, name)

    @router.post("/identify")
    async def identify(
        recording: UploadFile,
        top_n: Annotated[int, Form(description="Maximum number of candidates.")] = 5,
    ) -> Identified:
        """Find the enrolled speakers whom a recording sounds like."""
        return await desk.ask(listener.identify, store, await read_upload(recording, "recording"), top_n)

    return router


async def read_upload(upload: UploadFile, otherwise: str) -> Recording:
    """The recording of an upload; ``otherwise`` names it if the client does not."""
    content = await upload.read()
    await upload.close()  # frees the parser's copy, which would otherwise wait in memory with the request
    return Recording(label(upload.filename, otherwise), content)
