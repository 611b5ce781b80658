"""Puts the server together: gate, API, pages, and mistakes as sentences in JSON."""

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.types import ASGIApp

from mqmha_jax import __version__
from mqmha_jax.errors import UserError
from mqmha_jax.features.mixdown import TooLongError
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.serve.api import Desk, make_router, make_store_router
from mqmha_jax.serve.gate import Gate, refuse
from mqmha_jax.serve.limits import Limits
from mqmha_jax.serve.listener import Listener
from mqmha_jax.serve.pages import make_pages
from mqmha_jax.serve.warm_up import WarmUp
from mqmha_jax.store.speaker_store import SpeakerStore


def make_app(
    encoder: SpeakerEncoder,
    store: SpeakerStore | None = None,
    *,
    limits: Limits | None = None,
    host_names: Sequence[str] = (),
    warm: bool = True,
) -> ASGIApp:
    """Makes the ASGI application.

    Args:
      encoder: the network.
      store: of the enrolled speakers, made with this network; None: nobody can be enrolled or identified.
      limits: of requests.
      host_names: names that clients may call the server, besides localhost and IP addresses.
      warm: compile programs for the usual lengths at the start.

    Returns:
      The application, behind its gate; its lifespan owns the thread that uses the network.
    """
    limits = limits or Limits()
    thread = ThreadPoolExecutor(1, "listener")
    desk = Desk(Listener(encoder, limits.max_seconds), thread)
    warm_up = WarmUp(encoder)
    # Recordings stay in memory: by default the parser writes what is larger than a megabyte to a temporary file.
    MultiPartParser.spool_max_size = limits.max_bytes + 1

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if warm:
            warm_up.start()
        yield
        warm_up.stop()
        thread.shutdown()

    # FastAPI's own pages of the API load scripts from another host.
    app = FastAPI(
        title="mqmha_jax", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json", summary="Speaker embeddings and decisions.",
    )  # fmt: skip
    app.include_router(make_router(desk, limits, warm_up, store))
    if store is not None:
        app.include_router(make_store_router(desk, store))
    app.include_router(make_pages(app, limits, has_store=store is not None))
    app.add_exception_handler(UserError, _answer_mistake)
    app.add_exception_handler(HTTPException, _answer_refusal)
    app.add_exception_handler(RequestValidationError, _answer_missing)
    app.add_exception_handler(Exception, _answer_failure)
    return Gate(app, limits=limits, host_names=host_names)


def _answer_mistake(_: Request, error: Exception) -> Response:
    return refuse(413 if isinstance(error, TooLongError) else 422, str(error))


def _answer_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, str(error.detail), dict(error.headers or {}))


def _answer_missing(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    places = (f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}" for problem in error.errors())
    return refuse(422, f"The request does not fit; {'; '.join(places)}. /api/docs describes it.")


def _answer_failure(_: Request, __: Exception) -> Response:
    return refuse(500, "The server failed on this request, which is a mistake of its own; its log holds the reason.")
