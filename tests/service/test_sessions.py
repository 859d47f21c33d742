"""Browsers: the page's policy, sessions by cookie, and changes that foreign pages ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from nas.core import Role
from nas.service import Server
from nas.service.security import COOKIE
from tests.service.conftest import SPEC

PAGE = {"X-NAS-Page": "1"}


@pytest.fixture
def secret(server: Server) -> str:
    return server.workspace.store.accounts().create_token("t", "ann", Role.USER)[1]


@pytest.fixture
def browser(server: Server, secret: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        answer = client.post("/v1/session", json={"token": secret}, headers=PAGE)
        assert answer.json() == {"owner": "ann", "role": "user"}
        yield client


def test_a_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(
    server: Server, secret: str
) -> None:
    answer = httpx.post(f"{server.url}/v1/session", json={"token": secret}, headers=PAGE)
    said = answer.headers["set-cookie"].lower()
    assert said.startswith(COOKIE)
    assert "httponly" in said and "samesite=strict" in said and "path=/" in said
    assert "secure" not in said


async def _post_over_tls(server: Server, secret: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=server.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
        return await client.post("/v1/session", json={"token": secret}, headers=PAGE)


def test_over_tls_the_cookie_is_secure(server: Server, secret: str) -> None:
    answer = asyncio.run(_post_over_tls(server, secret))
    assert "secure" in answer.headers["set-cookie"].lower()


def test_a_session_reads_and_changes_until_it_ends(browser: httpx.Client) -> None:
    assert browser.get("/v1/me").json()["owner"] == "ann"
    made = browser.post("/v1/jobs", json=SPEC, headers=PAGE)
    assert made.status_code == 201 and made.json()["owner"] == "ann"
    assert browser.delete("/v1/session", headers=PAGE).status_code == 204
    assert COOKIE not in browser.cookies
    assert browser.get("/v1/me").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-NAS-Page": "0"},
        {**PAGE, "Sec-Fetch-Site": "cross-site"},
        {**PAGE, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_session_changes_nothing_for_a_foreign_page(
    browser: httpx.Client, headers: dict[str, str]
) -> None:
    for method, path, body in (
        ("POST", "/v1/jobs", SPEC),
        ("POST", "/v1/preview", SPEC),
        ("DELETE", "/v1/jobs/none", None),
        ("PUT", f"/v1/datasets/{'0' * 64}", None),
        ("DELETE", "/v1/session", None),
        ("POST", "/v1/session", {"token": "nas_other"}),
    ):
        answer = browser.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403, (method, path, answer.text)
    assert browser.get("/v1/jobs").json()["items"] == []


def test_a_wrong_or_revoked_token_opens_nothing(
    server: Server, browser: httpx.Client, secret: str
) -> None:
    answer = httpx.post(f"{server.url}/v1/session", json={"token": "nas_no"}, headers=PAGE)
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    accounts = server.workspace.store.accounts()
    accounts.revoke_token(accounts.token_of(secret).token_id)  # type: ignore[union-attr]
    assert browser.get("/v1/me").status_code == 401


def test_a_bearer_token_needs_no_page_and_outranks_the_cookie(
    server: Server, browser: httpx.Client
) -> None:
    other = server.workspace.store.accounts().create_token("t", "bob", Role.USER)[1]
    bearer = {"Authorization": f"Bearer {other}"}
    assert browser.post("/v1/jobs", json=SPEC, headers=bearer).json()["owner"] == "bob"
    assert browser.get("/v1/me", headers={"Authorization": "Bearer nas_no"}).status_code == 401


def test_the_page_allows_no_inline_script_or_style(server: Server) -> None:
    answer = httpx.get(server.url)
    policy = dict(
        part.strip().partition(" ")[::2]
        for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert "unsafe-inline" not in str(policy) and "unsafe-eval" not in str(policy)
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "<script>" not in answer.text and "style=" not in answer.text


def test_files_are_packed_cached_for_good_and_named_by_content(server: Server) -> None:
    page = httpx.get(server.url)
    assert page.headers["cache-control"] == "no-cache"
    script = page.text.partition('type="module" src="')[2].partition('"')[0]
    plotly = page.text.partition('name="plotly" content="')[2].partition('"')[0]
    for path in (script, plotly):
        answer = httpx.get(f"{server.url}{path}")
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["content-encoding"] == "gzip"
        plain = httpx.get(f"{server.url}{path}", headers={"Accept-Encoding": "identity"})
        assert plain.content == answer.content and "content-encoding" not in plain.headers
    base = script.rpartition("/")[0]
    for path in (f"{base}/../app.js", f"{base}/%2e%2e/%2e%2e/pyproject.toml", f"{base}/none.js"):
        assert httpx.get(f"{server.url}{path}", follow_redirects=True).status_code == 404
    assert httpx.get(f"{server.url}/web/0000/app.js").status_code == 404


def test_a_report_runs_apart_from_the_session(server: Server) -> None:
    job = httpx.post(f"{server.url}/v1/jobs", json=SPEC).json()["job_id"]
    policy = httpx.get(f"{server.url}/v1/jobs/{job}/report").headers["content-security-policy"]
    assert policy.startswith("sandbox ") and "allow-same-origin" not in policy
