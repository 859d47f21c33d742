"""The Python client: the same calls against a server, or against one inside this process.

    client = nas.Client("http://nas.example:8470", token="nas_…")
    job = client.submit(data="digits", objectives=["accuracy", "latency_ms"], trials=30)
    front = job.wait()
    front.best("latency_ms<=0.3").export("my_model")

Needs httpx, numpy and moocore only.
"""

from __future__ import annotations

from nas.client.client import Client
from nas.client.job import ClientJob, RemoteModel
from nas.client.transport import AccessError, ServerError

__all__ = ["AccessError", "Client", "ClientJob", "RemoteModel", "ServerError"]
