"""Tokens in a dictionary."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from nas.core import AccountStore, NotFoundError, Role, Token
from nas.stores._checks import require_new_token
from nas.stores._secrets import digest_of, new_token


class MemoryAccountStore(AccountStore):
    """Tokens by the digest of their secret. Safe for threads."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self._lock = threading.Lock()

    def create_token(
        self, name: str, owner: str, role: Role, expires_at: float | None = None
    ) -> tuple[Token, str]:
        """A new token and its secret."""
        require_new_token(name, owner)
        token, secret = new_token(name, owner, role, expires_at)
        with self._lock:
            self._tokens[digest_of(secret)] = token
        return token, secret

    def tokens(self) -> Sequence[Token]:
        """Every token, newest first."""
        with self._lock:
            found = list(self._tokens.values())
        return sorted(found, key=lambda t: (t.created_at, t.token_id), reverse=True)

    def revoke_token(self, token_id: str) -> None:
        """Make a token useless from now on."""
        with self._lock:
            for digest, token in self._tokens.items():
                if token.token_id == token_id:
                    first = token.revoked_at or time.time()
                    self._tokens[digest] = replace(token, revoked_at=first)
                    return
        raise NotFoundError("token", token_id)

    def token_of(self, secret: str) -> Token | None:
        """The token of a secret; None if it is unknown, revoked or expired."""
        with self._lock:
            token = self._tokens.get(digest_of(secret))
        return token if token is not None and token.is_good(time.time()) else None

    def has_tokens(self) -> bool:
        """Whether any token was ever made."""
        with self._lock:
            return bool(self._tokens)
