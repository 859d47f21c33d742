"""The dashboard's files, and the session of the browser that shows them."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import plotly
from fastapi import APIRouter, Depends, Request, Response
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from nas.core import NotFoundError
from nas.service.errors import UnauthorizedError
from nas.service.schemas import SessionBody, SessionRequest
from nas.service.security import COOKIE, TheService, own_page
from nas.service.sharing import Answer

EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""Digest of no text: Plotly makes an empty style element, and sets empty style attributes."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {EMPTY_STYLE}",
        f"style-src-attr 'unsafe-hashes' {EMPTY_STYLE}",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
FOREVER = "public, max-age=31536000, immutable"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
SESSION_SECONDS = 7 * 86_400

router = APIRouter(prefix="/v1", tags=["session"])
files_router = APIRouter(include_in_schema=False)


@router.post("/session", response_model=SessionBody, dependencies=[Depends(own_page)])
def log_in(
    body: SessionRequest, request: Request, response: Response, service: TheService
) -> dict[str, str]:
    """Keep a token as a cookie that no script can read; needs the header `X-NAS-Page: 1`."""
    token = service.accounts.token_of(body.token)
    if token is None:
        raise UnauthorizedError("the token is unknown, revoked or expired")
    response.set_cookie(
        COOKIE,
        body.token,
        max_age=SESSION_SECONDS,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return {"owner": token.owner, "role": token.role.value}


@router.delete("/session", status_code=204, dependencies=[Depends(own_page)])
def log_out() -> Response:
    """Forget the cookie; the token stays valid."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


@files_router.get("/")
def index() -> Response:
    """The page; its files are named by their digest and never change."""
    html = web().joinpath("index.html").read_text().replace("{version}", version())
    html = html.replace("{plotly}", plotly_path()).replace("{mark}", _map_styles())
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response(html, media_type="text/html", headers=headers)


@files_router.get("/favicon.ico")
def favicon(request: Request) -> Response:
    """The page's icon."""
    return _file("icon.svg", request)


@files_router.get("/web/{digest}/{path:path}")
def web_file(digest: str, path: str, request: Request) -> Response:
    """A file of the dashboard."""
    if digest != version():
        raise NotFoundError("version of the dashboard", digest)
    return _file(path, request)


@files_router.get("/plotly/{digest}.js")
def plotly_file(digest: str, request: Request) -> Response:
    """Plotly's own bundle, from the installed package."""
    if plotly_path() != f"/plotly/{digest}.js":
        raise NotFoundError("version of Plotly", digest)
    return _plotly().to(request, {"Cache-Control": FOREVER})


def web() -> Traversable:
    """The folder of the dashboard's files."""
    return files("dashboard").joinpath("web")


@cache
def version() -> str:
    """Digest of all files of the dashboard."""
    digest = hashlib.sha256()
    for name, body in sorted(_contents().items()):
        digest.update(name.encode() + b"\0" + body + b"\0")
    return digest.hexdigest()[:16]


@cache
def plotly_path() -> str:
    """Where Plotly is; another place for another version."""
    return f"/plotly/{plotly.__version__}-{get_plotlyjs_version()}.js"


@cache
def _contents() -> dict[str, bytes]:
    def walk(folder: Traversable, prefix: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for item in folder.iterdir():
            name = f"{prefix}{item.name}"
            found |= walk(item, f"{name}/") if item.is_dir() else {name: item.read_bytes()}
        return found

    return walk(web(), "")


def _file(path: str, request: Request) -> Response:
    return _asset(path).to(request, {"Cache-Control": FOREVER})


@cache
def _asset(path: str) -> Answer:
    body = _contents().get(path)
    kind = KINDS.get(f".{path.rpartition('.')[2]}")
    if body is None or kind is None:
        raise NotFoundError("file", path)
    return Answer(body, kind)


@cache
def _map_styles() -> str:
    """Id of the style sheet that Plotly adds for maps unless the page has it."""
    found = re.search(rb'getElementById\("([0-9a-f]{64})"\)', _plotly().body)
    return found[1].decode() if found else "plotly-maps"


@cache
def _plotly() -> Answer:
    return Answer(str(get_plotlyjs()).encode(), KINDS[".js"])
