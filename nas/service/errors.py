"""Our errors as HTTP answers, all of one shape."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from nas.core import (
    ConflictError,
    InvalidInputError,
    NasError,
    NotFoundError,
    StoreError,
)
from nas.spec import refusal

logger = logging.getLogger(__name__)


class UnauthorizedError(NasError):
    """No token, or one that is unknown, revoked or expired."""


class ForbiddenError(NasError):
    """The token's owner may not do this."""


class QuotaError(NasError):
    """The owner has used up what one owner may have."""


class TooLargeError(NasError):
    """A body larger than the server takes."""


STATUS: dict[type[NasError], tuple[int, str]] = {
    InvalidInputError: (422, "invalid_input"),
    NotFoundError: (404, "not_found"),
    ConflictError: (409, "conflict"),
    StoreError: (503, "store_unavailable"),
    UnauthorizedError: (401, "unauthorized"),
    ForbiddenError: (403, "forbidden"),
    QuotaError: (429, "quota"),
    TooLargeError: (413, "too_large"),
}
CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 416: "bad_range"}


def answer(error: NasError) -> JSONResponse:
    """The answer to an error of ours."""
    status, code = next(
        (found for kind, found in STATUS.items() if isinstance(error, kind)), (500, "internal")
    )
    body: dict[str, Any] = {"code": code, "message": str(error)}
    if isinstance(error, InvalidInputError):
        body |= {"field": error.field, "value": _plain(error.value), "expected": error.expected}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status in (429, 503):
        headers["Retry-After"] = "5"
    return JSONResponse({"error": body}, status, headers)


def install(app: FastAPI) -> None:
    """Let `app` answer every error in the one shape."""

    @app.exception_handler(NasError)
    async def ours(request: Request, error: NasError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = first["loc"][1:] or first["loc"]
        return answer(refusal(where, first["type"], first.get("input"), first["msg"]))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = CODES.get(error.status_code, "http_error")
        body = {"error": {"code": code, "message": str(error.detail)}}
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        message = "the server made a mistake; its log tells more"
        return JSONResponse({"error": {"code": "internal", "message": message}}, 500)


def _plain(value: object) -> object:
    """`value` where JSON can hold it and it is short, else its beginning as text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    return repr(value)[:200] if not isinstance(value, str) else value[:200]
