"""Who may use a service: tokens, of which a store keeps only the digest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a token allows: one's own jobs; everybody's and the tokens; or to be a device."""

    USER = "user"
    ADMIN = "admin"
    DEVICE = "device"


@dataclass(frozen=True)
class Token:
    """A right to use the service, shown to be held by telling its secret.

    Attributes:
        token_id: opaque, unique, no secret.
        name: for people, not unique.
        owner: whose jobs it submits and sees.
        role: what it allows.
        created_at: seconds since the epoch, as are the others.
        expires_at: None for never.
        revoked_at: None while it is good.
    """

    token_id: str
    name: str
    owner: str
    role: Role
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def is_good(self, now: float) -> bool:
        """Whether it is neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
