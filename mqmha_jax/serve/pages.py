"""The page for people, and the page about the API; both work without a network."""

import functools
from importlib.resources import files
from typing import Any

import jinja2
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from mqmha_jax.serve.limits import Limits

ASSETS = {
    "capture.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "page.js": "text/javascript",
    "style.css": "text/css",
}


def make_pages(app: FastAPI, limits: Limits, *, has_store: bool) -> APIRouter:
    """Makes the routes of the pages and of what they load.

    Args:
      app: its API is described.
      limits: named on the page.
      has_store: whether the page enrols and identifies.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(_render("page.html", limits=limits, has_store=has_store))

    @router.get("/api/docs")
    def api_page(request: Request) -> HTMLResponse:
        return HTMLResponse(_render("api.html", schema=app.openapi(), base=str(request.base_url).rstrip("/")))

    @router.get("/{name}")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise HTTPException(404)
        content = (files("mqmha_jax.serve") / "templates" / name).read_bytes()
        return Response(content, media_type=ASSETS[name])

    return router


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("mqmha_jax.serve")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _render(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(**values)
