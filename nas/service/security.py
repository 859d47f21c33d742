"""Who is asking, and whether this server takes such requests at all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.core import Role
from nas.service.context import Service, User, service_of
from nas.service.errors import ForbiddenError, TooLargeError, UnauthorizedError, answer

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
CHANGES = {"POST", "PUT", "PATCH", "DELETE"}
PLAIN_FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""What a foreign web page can send without asking first; a bearer token it cannot."""

COOKIE = "nas_session"
PAGE_HEADER = "x-nas-page"
"""What a page of this server sends with every change; foreign pages would have to ask first."""

bearer = HTTPBearer(auto_error=False, description="made by `nas token create`")


def bearer_of(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    service: Annotated[Service, Depends(service_of)],
) -> User:
    """The user of the request's token; anyone is admin where there are no tokens (loopback only).

    The token comes as a bearer token, or in the cookie of a session; then changes must come from
    a page of this server.

    Raises:
        ForbiddenError: a change by a session, from elsewhere.
        UnauthorizedError: a token is needed and none is given, or it is not valid.
    """
    accounts = service.accounts
    if credentials is None:
        kept = request.cookies.get(COOKIE)
        if kept is not None and "authorization" not in request.headers:
            token = accounts.token_of(kept)
            if token is not None:
                if request.method in CHANGES:
                    own_page(request)
                return User(token.owner, token.role)
        if service.needs_token or "authorization" in request.headers:
            raise UnauthorizedError("a bearer token is needed: nas token create")
        if request.method in CHANGES and request.headers.get("origin") is not None:
            service.require_own_origin(request.headers["origin"])
        return User("", Role.ADMIN)
    token = accounts.token_of(credentials.credentials)
    if token is None:
        raise UnauthorizedError("the token is unknown, revoked or expired")
    return User(token.owner, token.role)


def current_user(user: Annotated[User, Depends(bearer_of)]) -> User:
    """The same, unless it is a device.

    Raises:
        ForbiddenError: it is: devices may do nothing but a device's work.
    """
    if user.role is Role.DEVICE:
        raise ForbiddenError("the token is a device's; it may only run an agent")
    return user


def device_agent(user: Annotated[User, Depends(bearer_of)]) -> User:
    """Whoever may speak for a device: its token, or an admin.

    Raises:
        ForbiddenError: a user's token.
    """
    if user.role is Role.USER:
        raise ForbiddenError(
            "an agent needs a token of role device: nas token create --role device"
        )
    return user


def own_page(request: Request) -> None:
    """Refuse what a foreign page may have sent with this browser's cookie.

    Raises:
        ForbiddenError: without the header that only pages of this server can set.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    if request.headers.get(PAGE_HEADER) != "1" or site not in ("same-origin", "none"):
        raise ForbiddenError("a session changes things only from pages of this server")


def admin(user: Annotated[User, Depends(current_user)]) -> User:
    """The same, and an admin.

    Raises:
        ForbiddenError: it is not.
    """
    if not user.is_admin:
        raise ForbiddenError("only an admin may do this")
    return user


AnyUser = Annotated[User, Depends(current_user)]
Admin = Annotated[User, Depends(admin)]
AnAgent = Annotated[User, Depends(device_agent)]
TheService = Annotated[Service, Depends(service_of)]


class Guard:
    """Limits bodies, refuses form posts, and adds headers that keep browsers careful.

    Args:
        app: what is guarded.
        largest_body: bytes.
        exempt: path prefix whose requests may be larger; they check themselves.
        hosts: names this server may be called by; None for any. Else a foreign page could reach a
            server on loopback through a name of its own (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, largest_body: int, exempt: str, hosts: Collection[str] | None = None
    ) -> None:
        self._app = app
        self._largest = largest_body
        self._exempt = exempt
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        careful = _with_headers(send)
        is_exempt = scope["path"].startswith(self._exempt)
        error = self._refusal(scope, None if is_exempt else self._largest)
        if error is not None:
            await answer(error)(scope, receive, careful)
            return
        await self._app(scope, receive if is_exempt else self._limited(receive), careful)

    def _refusal(self, scope: Scope, largest: int | None) -> ForbiddenError | TooLargeError | None:
        """Why a request is not taken, by its headers alone; `largest` None is for no limit."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and urlsplit(f"//{host}").hostname not in self._hosts:
            return ForbiddenError(f"this server is not called {host}")
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip()
        if scope["method"] in CHANGES and kind.lower() in PLAIN_FORMS:
            return ForbiddenError(f"a body of type {kind}; send application/json")
        length = headers.get(b"content-length", b"0")
        if largest is not None and (not length.isdigit() or int(length) > largest):
            return self._too_large
        return None

    def _limited(self, receive: Receive) -> Receive:
        """`receive`, until a body is longer than its header said it would be, or said nothing."""
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._largest:
                raise self._too_large
            return message

        return limited

    @property
    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the body may have at most {self._largest} bytes")


def _with_headers(send: Send) -> Send:
    """`send`, with the headers that an answer does not have yet."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *((k, v) for k, v in HEADERS if k not in names),
            ]
        await send(message)

    return send_with_headers
