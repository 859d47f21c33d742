"""Secrets of tokens, and the digests that are stored in their place."""

from __future__ import annotations

import hashlib
import secrets
import time

from nas.core import Role, Token


def new_token(name: str, owner: str, role: Role, expires_at: float | None) -> tuple[Token, str]:
    """A token made now, and its secret."""
    token = Token(secrets.token_hex(8), name, owner, role, time.time(), expires_at)
    return token, f"nas_{secrets.token_urlsafe(32)}"


def digest_of(secret: str) -> str:
    """SHA-256 of a secret, 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
