"""What whoever runs the service may set."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from nas.core import InvalidInputError
from nas.core.device import FILES
from nas.core.importing import imported

MEBIBYTE = 2**20


@dataclass(frozen=True)
class ServiceSettings:
    """How one server runs.

    Attributes:
        home: folder for artifacts, uploads and, unless `store` names another, the database.
        store: database URL; None for SQLite below `home`.
        host: address to listen on; only loopback may go without tokens.
        port: 0 takes a free one.
        ray: `local` drives jobs without Ray, `auto` starts a cluster here and submits jobs to it,
            else the address of a cluster's dashboard, `http://head:8265`.
        workers: trials at once over all jobs where there is no Ray; None for one per CPU.
        running_jobs: driven at once.
        running_per_owner: of them, at most so many of one owner.
        queued_per_owner: jobs one owner may have waiting; more are refused.
        supervise: whether this server starts jobs; of several servers one is enough.
        largest_body: bytes of a request's JSON.
        largest_upload: bytes of a data set, as sent and as unpacked.
        device_seconds: after which a silent device counts as gone, and its work goes back.
        allowed: `package.module:Name` of families, strategies and predictors of your own that jobs
            may name; no other code runs because somebody named it.
        tls_certificate, tls_key: PEM files; both or neither.

    Raises:
        InvalidInputError: a number out of range, or half of the TLS files.
    """

    home: Path
    store: str | None = None
    host: str = "127.0.0.1"
    port: int = 8470
    ray: str = "local"
    workers: int | None = None
    running_jobs: int = 4
    running_per_owner: int = 4
    queued_per_owner: int = 100
    supervise: bool = True
    largest_body: int = MEBIBYTE
    largest_upload: int = 2048 * MEBIBYTE
    device_seconds: float = 30.0
    allowed: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        for name in ("running_jobs", "running_per_owner", "queued_per_owner", "largest_body"):
            if getattr(self, name) < 1:
                raise InvalidInputError(name, getattr(self, name), "at least 1")
        if self.device_seconds <= 0:
            raise InvalidInputError("device_seconds", self.device_seconds, "above 0")
        if not 0 <= self.port <= 65535:
            raise InvalidInputError("port", self.port, "0 to 65535")
        for path in self.allowed:
            imported("allow", path, object)
        if (self.tls_certificate is None) != (self.tls_key is None):
            given = self.tls_certificate or self.tls_key
            raise InvalidInputError("tls", str(given), "a certificate and a key, both PEM files")
        for file in (self.tls_certificate, self.tls_key):
            if file is not None and not file.is_file():
                raise InvalidInputError("tls", str(file), "a PEM file that exists")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def uploads(self) -> Path:
        """Folder of data sets that clients sent."""
        return self.home / "datasets"

    @property
    def device_files(self) -> Path:
        """Folder of the files that wait to be timed, each named by its SHA-256."""
        return self.home / FILES
