"""What is known of clusters before Ray is imported: it reads its environment only once."""

from __future__ import annotations

from nas.core import NasError

OBJECT_STORE_BYTES = 200 * 2**20


class ClusterError(NasError, RuntimeError):
    """A Ray cluster could not be started or reached."""
