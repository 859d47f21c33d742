"""Files: artifacts of jobs, and data sets sent by clients."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from nas.core import NotFoundError
from nas.service import uploads
from nas.service.schemas import OCTETS, DatasetBody, answers
from nas.service.security import AnyUser, TheService
from workers.datasets import NAMED, UPLOAD, data_folder

router = APIRouter(prefix="/v1", tags=["files"])
DATASETS = "/v1/datasets"


@router.get(
    "/jobs/{job_id}/trials/{number}/artifacts/{role}",
    responses={**answers(OCTETS), 206: {"description": "a range"}},
)
def artifact(
    job_id: str, number: int, role: str, user: AnyUser, service: TheService
) -> FileResponse:
    """A trial's file by its role (`onnx`, `torch_source` …); ranges and ETag (SHA-256) work."""
    job = service.job(user, job_id)
    if not 0 <= number < 2**31:
        raise NotFoundError("trial", number)
    trial = service.store.trial_store(job.job_id).trial(number)
    folder = service.workspace.folder(job).resolve()
    name = trial.artifacts.get(role)
    path = (folder / name).resolve() if name else None
    if path is None or not path.is_file() or not path.is_relative_to(folder):
        raise NotFoundError(f"{role} file of trial", number)
    digest = _digest(path, path.stat().st_mtime_ns)
    headers = {"ETag": f'"{digest}"', "X-Content-SHA256": digest}
    return FileResponse(path, media_type=OCTETS, filename=path.name, headers=headers)


@router.get("/datasets", response_model=list[DatasetBody])
def datasets(user: AnyUser, service: TheService) -> list[dict[str, Any]]:
    """What a job's `data` may be."""
    there = [name for name, file in NAMED.items() if (data_folder() / file).is_file()]
    named = [{"source": name, "digest": None, "bytes": None} for name in ("digits", *there)]
    sent = uploads.uploads(service.settings.uploads)
    return named + [{"source": f"{UPLOAD}{d}", "digest": d, "bytes": n} for d, n in sent]


@router.put("/datasets/{digest}", status_code=201, response_model=DatasetBody)
async def upload(
    digest: str, request: Request, user: AnyUser, service: TheService
) -> dict[str, Any]:
    """Send an `.npz`, or a zip archive of `<class>/<image>`, under the SHA-256 of its bytes."""
    settings = service.settings
    source, size = await uploads.receive(
        settings.uploads, digest, request.stream(), settings.largest_upload
    )
    return {"source": source, "digest": digest, "bytes": size}


@lru_cache(maxsize=4096)
def _digest(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
