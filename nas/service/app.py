"""The HTTP application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

import nas
from nas.service import (
    errors,
    pages,
    routes_about,
    routes_devices,
    routes_files,
    routes_jobs,
    routes_results,
    routes_tables,
    routes_views,
)
from nas.service.context import LOOPBACK, Service
from nas.service.monitoring import Timed
from nas.service.schemas import OCTETS, ErrorBody
from nas.service.security import Guard
from nas.service.settings import ServiceSettings
from nas.service.sharing import LEVEL
from nas.workspace import Workspace

FAILURES = (400, 401, 403, 404, 409, 413, 422, 429, 503)


def create_app(settings: ServiceSettings, workspace: Workspace) -> FastAPI:
    """The application over an open workspace; everything is below `/v1`, but for health."""
    service = Service(settings, workspace)
    app = FastAPI(
        title="nas",
        version=nas.__version__,
        description="Neural architecture search over architecture x pruning x quantization.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.service = service
    errors.install(app)
    said = {status: {"model": ErrorBody} for status in FAILURES}
    for module in (
        *(routes_jobs, routes_results, routes_views, routes_files, routes_devices),
        *(routes_tables, routes_about, pages),
    ):
        app.include_router(module.router, responses=dict(said))  # type: ignore[arg-type]
    app.include_router(pages.files_router)
    app.include_router(routes_about.health_router, responses={503: {"model": ErrorBody}})
    app.add_middleware(
        GZipMiddleware,
        compresslevel=LEVEL,
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, OCTETS),
    )
    app.add_middleware(
        Guard,
        largest_body=settings.largest_body,
        exempt=f"{routes_files.DATASETS}/",
        hosts={*LOOPBACK, settings.host} if settings.is_loopback else None,
    )
    app.add_middleware(Timed)
    return app
