"""Tokens: found by their secret as long as they are good, and the secret is stored nowhere."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

import pytest

from nas.core import InvalidInputError, JobStore, NotFoundError, Role
from nas.stores import open_store


def test_a_token_is_found_by_its_secret_alone(store: JobStore) -> None:
    accounts = store.accounts()
    token, secret = accounts.create_token("laptop", "ann", Role.USER)
    admin, other = accounts.create_token("ci", "ben", Role.ADMIN, time.time() + 60)
    assert re.fullmatch(r"nas_[\w-]{43}", secret)
    assert secret != other
    assert (token.name, token.owner, token.role) == ("laptop", "ann", Role.USER)
    assert accounts.token_of(secret) == token
    assert store.accounts().token_of(other) == admin
    for wrong in (secret[:-1], secret + "x", secret.upper(), "", token.token_id, "\udc80"):
        assert accounts.token_of(wrong) is None
    assert list(accounts.tokens())[:2] == [admin, token]


def test_revoked_and_expired_tokens_are_good_for_nothing(store: JobStore) -> None:
    accounts = store.accounts()
    token, secret = accounts.create_token("a", "ann", Role.USER)
    _, late = accounts.create_token("b", "ann", Role.USER, time.time() - 1)
    assert accounts.token_of(late) is None
    accounts.revoke_token(token.token_id)
    assert accounts.token_of(secret) is None
    (first,) = (t for t in accounts.tokens() if t.token_id == token.token_id)
    accounts.revoke_token(token.token_id)
    assert first.revoked_at is not None
    assert first in accounts.tokens()
    with pytest.raises(NotFoundError, match="token"):
        accounts.revoke_token("zz")


def test_names_too_long_and_nobody_are_refused(store: JobStore) -> None:
    accounts = store.accounts()
    n = len(accounts.tokens())
    for name, owner in (("a", ""), ("a", "o" * 201), ("a" * 201, "ann")):
        with pytest.raises(InvalidInputError):
            accounts.create_token(name, owner, Role.USER)
    assert len(accounts.tokens()) == n


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_there_are_tokens_even_when_all_are_revoked(kind: str, tmp_path: Path) -> None:
    url = "memory" if kind == "memory" else f"sqlite:///{tmp_path / 'a.db'}"
    accounts = open_store(url).accounts()
    assert not accounts.has_tokens()
    token, _ = accounts.create_token("a", "ann", Role.USER)
    accounts.revoke_token(token.token_id)
    assert accounts.has_tokens()


def test_the_secret_is_not_in_the_database(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'a.db'}")
    _, secret = store.accounts().create_token("a", "ann", Role.USER)
    with sqlite3.connect(tmp_path / "a.db") as reader:
        stored = repr(reader.execute("SELECT * FROM tokens").fetchall())
    assert "ann" in stored
    assert secret not in stored
    assert secret.removeprefix("nas_") not in stored
