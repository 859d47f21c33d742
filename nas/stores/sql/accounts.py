"""Tokens in SQL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, exists, func, insert, select, update
from sqlalchemy.engine import Engine

from nas.core import AccountStore, NotFoundError, Role, Token
from nas.stores._checks import require_new_token
from nas.stores._secrets import digest_of, new_token
from nas.stores.sql.connection import transaction
from nas.stores.sql.models import Base

Tokens = Base.metadata.tables["tokens"]


class SqlAccountStore(AccountStore):
    """Tokens by the digest of their secret. Safe for threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create_token(
        self, name: str, owner: str, role: Role, expires_at: float | None = None
    ) -> tuple[Token, str]:
        """A new token and its secret."""
        require_new_token(name, owner)
        token, secret = new_token(name, owner, role, expires_at)
        with transaction(self._engine) as connection:
            values = {**vars(token), "role": role.value, "digest": digest_of(secret)}
            connection.execute(insert(Tokens), values)
        return token, secret

    def tokens(self) -> Sequence[Token]:
        """Every token, newest first."""
        query = select(Tokens).order_by(Tokens.c.created_at.desc(), Tokens.c.token_id.desc())
        with transaction(self._engine, reads=True) as connection:
            return [_token(row) for row in connection.execute(query)]

    def revoke_token(self, token_id: str) -> None:
        """Make a token useless from now on."""
        change = update(Tokens).where(Tokens.c.token_id == token_id)
        first = func.coalesce(Tokens.c.revoked_at, time.time())
        with transaction(self._engine) as connection:
            if connection.execute(change.values(revoked_at=first)).rowcount == 0:
                raise NotFoundError("token", token_id)

    def token_of(self, secret: str) -> Token | None:
        """The token of a secret; None if it is unknown, revoked or expired."""
        query = select(Tokens).where(Tokens.c.digest == digest_of(secret))
        with transaction(self._engine, reads=True) as connection:
            row = connection.execute(query).one_or_none()
        token = None if row is None else _token(row)
        return token if token is not None and token.is_good(time.time()) else None

    def has_tokens(self) -> bool:
        """Whether any token was ever made."""
        with transaction(self._engine, reads=True) as connection:
            return bool(connection.execute(select(exists().select_from(Tokens))).scalar())


def _token(row: Row[Any]) -> Token:
    values = {field.name: getattr(row, field.name) for field in fields(Token)}
    return Token(**{**values, "role": Role(row.role)})
