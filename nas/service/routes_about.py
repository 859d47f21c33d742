"""What there is (spaces, strategies), who may come in, and how the server is doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import nas
from nas.core import Role
from nas.service import monitoring
from nas.service.catalog import space_schemas, strategy_schemas
from nas.service.schemas import ClusterBody, NamedBody, TokenBody, TokenRequest, answers
from nas.service.security import Admin, AnyUser, TheService
from nas.spec import JobSpec

router = APIRouter(prefix="/v1", tags=["about"])
health_router = APIRouter(tags=["health"])


@router.get("/spaces", response_model=list[NamedBody])
def spaces(user: AnyUser, service: TheService) -> list[dict[str, Any]]:
    """Families of networks, and the options that narrow each."""
    return space_schemas(service.settings.allowed)


@router.get("/strategies", response_model=list[NamedBody])
def strategies(user: AnyUser, service: TheService) -> list[dict[str, Any]]:
    """Search strategies and their settings."""
    return strategy_schemas(service.settings.allowed)


@router.get("/job-schema")
def job_schema(user: AnyUser) -> dict[str, Any]:
    """The JSON schema of a job specification."""
    return JobSpec.model_json_schema()


@router.get("/me")
def me(user: AnyUser) -> dict[str, Any]:
    """Who the token says you are."""
    return {"owner": user.owner, "role": user.role.value, "version": nas.__version__}


@router.get("/cluster", response_model=ClusterBody)
def cluster(user: AnyUser, service: TheService) -> dict[str, Any]:
    """Where trials run; nothing is known where another server starts the jobs."""
    launcher = service.launcher
    nodes = launcher.nodes() if launcher is not None else ()
    return {
        "executor": service.executor,
        "starts_jobs": launcher is not None,
        "workers": sum(node.n_cpus for node in nodes) if nodes else None,
        "dashboard": service.dashboard,
        "nodes": [vars(node) for node in nodes],
    }


@router.get("/tokens", response_model=list[TokenBody])
def tokens(user: Admin, service: TheService) -> list[dict[str, Any]]:
    """Every token, without its secret."""
    return [TokenBody.of(token).model_dump() for token in service.accounts.tokens()]


@router.post("/tokens", status_code=201)
def create_token(body: TokenRequest, user: Admin, service: TheService) -> dict[str, Any]:
    """A new token; its secret is shown this once."""
    token, secret = service.accounts.create_token(
        body.name, body.owner, Role(body.role), body.expires_at
    )
    return {**TokenBody.of(token).model_dump(), "secret": secret}


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: str, user: Admin, service: TheService) -> Response:
    """Make a token useless from now on."""
    service.accounts.revoke_token(token_id)
    return Response(status_code=204)


@health_router.get("/healthz")
def healthy() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@health_router.get("/readyz")
def ready(service: TheService) -> dict[str, str]:
    """The database answers, too; 503 where it does not."""
    service.accounts.has_tokens()
    return {"status": "ready"}


@health_router.get("/metrics", responses=answers("text/plain"))
def metrics(user: AnyUser, service: TheService) -> Response:
    """Prometheus metrics."""
    monitoring.refresh(service)
    return Response(generate_latest(monitoring.REGISTRY), media_type=CONTENT_TYPE_LATEST)
