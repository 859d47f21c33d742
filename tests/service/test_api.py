"""The HTTP API: what it answers, and to whom."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.client import AccessError, Client, ClientJob, ServerError
from nas.core import (
    ConflictError,
    InvalidInputError,
    JobState,
    NotFoundError,
    Role,
    TrialState,
)
from nas.service import Server, ServiceSettings
from tests.service.conftest import SPEC, add_trials


def submit(client: Client, **changes: object) -> str:
    return client.submit(**{**SPEC, **changes}).job_id  # type: ignore[arg-type]


def test_a_submitted_job_is_listed_shown_and_deleted(client: Client) -> None:
    job = client.submit(**SPEC, name="mine", priority=3)
    assert (job.state, job.job.priority) == (JobState.CREATED, 3)
    assert client.job(job.job_id[:6]).job == job.job
    assert [j.job_id for j in client.jobs(name="MIN")] == [job.job_id]
    assert client.jobs(state="running") == []
    job.delete()
    with pytest.raises(NotFoundError, match=job.job_id):
        client.job(job.job_id)


def test_a_deletion_whose_answer_was_lost_is_done(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = client.submit(**SPEC), client.submit(**{**SPEC, "seed": 1})
    send, lost = httpx.HTTPTransport.handle_request, list[str]()

    def losing(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        answer = send(transport, request)
        if request.method == "DELETE" and len(lost) == 0:
            lost.append(request.url.path)
            answer.close()
            raise httpx.ReadError("the connection was reset", request=request)
        return answer

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", losing)
    job.delete()
    assert lost == [f"/v1/jobs/{job.job_id}"]
    assert [j.job_id for j in client.jobs()] == [other.job_id]
    with pytest.raises(NotFoundError, match=job.job_id):
        job.delete()  # nothing was lost this time


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"strategy": "randm"}, "strategy"),
        ({"budget": {"trials": 0}}, "budget.trials"),
        ({"objectives": ["test_accuracy"]}, "objectives"),
        ({"constraints": ["weight_bytes<=1"]}, "constraint weight_bytes"),
        ({"data": "/etc/passwd.npz"}, "data"),
        ({"data": "../somewhere.npz"}, "data"),
        ({"data": "upload:" + "0" * 64}, "data"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_job_is_refused_by_field_before_it_is_stored(
    client: Client, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        submit(client, **changes)
    assert caught.value.field == field
    assert caught.value.expected
    assert client.jobs() == []


def test_every_error_has_one_shape(server: Server) -> None:
    base = server.url
    for answer in (
        httpx.get(f"{base}/v1/jobs/nope"),
        httpx.get(f"{base}/nowhere"),
        httpx.delete(f"{base}/v1/jobs"),
        httpx.get(f"{base}/v1/jobs?limit=0"),
        httpx.post(f"{base}/v1/jobs", content=b"{", headers={"content-type": "application/json"}),
        httpx.post(f"{base}/v1/jobs", json={"seed": "x" * 2_000_000}),
        httpx.post(f"{base}/v1/jobs", data={"data": "digits"}),
    ):
        assert answer.status_code in (403, 404, 405, 413, 422)
        error = answer.json()["error"]
        assert error["code"] and error["message"]


def test_one_key_is_one_job_also_from_many_threads(server: Server) -> None:
    found: list[str] = []

    def send() -> None:
        with Client(server.url) as client:
            found.append(submit(client, key="one"))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Client(server.url) as client:
        assert [job.job_id for job in client.jobs()] == list(set(found))
        with pytest.raises(ConflictError):
            submit(client, key="one", seed=9)


def test_pages_hold_every_trial_once(server: Server, client: Client) -> None:
    job = client.submit(**SPEC)
    add_trials(server.workspace.store, job.job_id, 23, 17)
    http = httpx.Client(base_url=f"{server.url}/v1/jobs/{job.job_id}")
    numbers, after = [], None
    for _ in itertools.count():
        query = {"limit": 5, "state": "completed", **({"after": after} if after else {})}
        page = http.get("/trials", params=query).json()
        numbers += [trial["number"] for trial in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert numbers == list(range(17))
    newest = http.get("/trials", params={"newest_first": True, "limit": 2}).json()["items"]
    assert [trial["number"] for trial in newest] == [22, 21]
    assert [t.number for t in job.trials(states=[TrialState.RUNNING])] == list(range(17, 23))
    assert client._transport.get(f"/jobs/{job.job_id}")["trials"] == {
        "running": 6,
        "completed": 17,
        "failed": 0,
    }


def test_front_and_progress_follow_the_log(server: Server, client: Client) -> None:
    job = client.submit(**SPEC)
    assert len(job.front()) == 0
    assert job.progress()["n_finished"] == []
    add_trials(server.workspace.store, job.job_id, 11, 11)
    local = server.workspace.front(server.workspace.store.job(job.job_id))
    front = job.front(n_trials=100)
    assert [m.candidate.key for m in front] == [m.candidate.key for m in local]
    assert len(front.trials) == 11
    progress = job.progress()
    assert progress["n_finished"] == list(range(1, 12))
    assert progress["hypervolume"][-1] == 1.0
    assert progress["best"]["weight_bytes"][-1] == 990.0
    with pytest.raises(NotFoundError):
        front[0].artifact("onnx")


def test_events_stream_resumes_after_an_id_and_ends_with_the_job(
    server: Server, client: Client
) -> None:
    job, store = client.submit(**SPEC), server.workspace.store
    add_trials(store, job.job_id, 3, 2)

    def go_on() -> None:
        add_trials(store, job.job_id, 2, 2)
        store.set_state(job.job_id, JobState.COMPLETED)

    threading.Timer(1.0, go_on).start()
    events = list(job.stream())
    assert [e.sequence for e in events] == list(range(1, 10))
    assert job.state is JobState.COMPLETED
    assert [e.sequence for e in job.stream(after=7)] == [8, 9]
    where = f"{server.url}/v1/jobs/{job.job_id}/events"
    text = httpx.get(where, headers={"Last-Event-ID": "8"}).text
    assert text.count("event: finished") == 1
    assert '"sequence":9' in text


def test_the_stream_of_a_deleted_job_ends(client: Client) -> None:
    job = client.submit(**SPEC)
    threading.Timer(1.0, job.delete).start()
    with pytest.raises(NotFoundError, match=job.job_id):
        list(job.stream())


def test_a_client_of_its_own_minds_nobody_elses_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_TOKEN", "nas_of_another_server")
    with Client(home=tmp_path / "home") as client:
        assert client.jobs() == []


def test_pausing_cancelling_and_extending_what_nobody_drives(client: Client) -> None:
    job = client.submit(**SPEC)
    assert job.pause().state is JobState.PAUSED
    assert job.resume().state is JobState.CREATED
    assert job.extend(trials=9).job.spec["budget"]["trials"] == 9
    with pytest.raises(InvalidInputError, match="at least 9"):
        job.extend(trials=4)
    assert job.cancel().state is JobState.CANCELLED
    for change in (job.cancel, job.resume, job.pause, lambda: job.extend(trials=20)):
        with pytest.raises(ConflictError):
            change()


def test_users_see_their_own_jobs_and_admins_all(server: Server) -> None:
    accounts = server.workspace.store.accounts()
    secrets = {
        owner: accounts.create_token("t", owner, role)[1]
        for owner, role in (("ann", Role.USER), ("bob", Role.USER), ("root", Role.ADMIN))
    }
    clients = {owner: Client(server.url, secret) for owner, secret in secrets.items()}
    job_id = submit(clients["ann"])
    assert clients["ann"].job(job_id).job.owner == "ann"
    assert [j.job_id for j in clients["root"].jobs()] == [job_id]
    assert clients["bob"].jobs() == []
    for call in ("refresh", "cancel", "delete", "trials", "front"):
        bobs = ClientJob(clients["bob"]._transport, clients["ann"].job(job_id).job)
        with pytest.raises(NotFoundError):
            getattr(bobs, call)()
    for token in (None, "nas_wrong"):
        with pytest.raises(AccessError), Client(server.url, token) as stranger:
            stranger.jobs()
    for who, status in (("ann", 403), ("root", 200)):
        headers = {"Authorization": f"Bearer {secrets[who]}"}
        assert httpx.get(f"{server.url}/v1/tokens", headers=headers).status_code == status
    accounts.revoke_token(accounts.token_of(secrets["ann"]).token_id)  # type: ignore[union-attr]
    with pytest.raises(AccessError):
        clients["ann"].jobs()
    for client in clients.values():
        client.close()


def test_secrets_are_neither_stored_nor_shown(server: Server) -> None:
    _, secret = server.workspace.store.accounts().create_token("t", "ann", Role.ADMIN)
    headers = {"Authorization": f"Bearer {secret}"}
    assert secret not in httpx.get(f"{server.url}/v1/tokens", headers=headers).text
    for path in server.workspace.home.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_a_foreign_page_or_host_is_refused(server: Server) -> None:
    jobs = f"{server.url}/v1/jobs"
    assert httpx.post(jobs, json=SPEC, headers={"Origin": "https://evil.example"}).is_error
    assert httpx.get(jobs, headers={"Host": "evil.example"}).status_code == 403


def test_beyond_loopback_a_token_is_needed(tmp_path: object) -> None:
    with pytest.raises(InvalidInputError, match="nas token create"):
        Server(ServiceSettings(tmp_path / "home", host="0.0.0.0"))  # type: ignore[operator]


def test_a_taken_port_is_said_at_once(server: Server, tmp_path: object) -> None:
    port = int(server.url.rpartition(":")[2])
    other = Server(ServiceSettings(tmp_path / "other", port=port))  # type: ignore[operator]
    with pytest.raises(InvalidInputError, match="free port"), other:
        pass


def test_quota_health_and_catalog(tmp_path: object) -> None:
    home = tmp_path / "home"  # type: ignore[operator]
    limits = ServiceSettings(home, port=0, supervise=False, queued_per_owner=2)
    with Server(limits) as server, Client(server.url) as client:
        kept = submit(client, key="kept")
        submit(client, seed=1)
        answer = httpx.post(f"{server.url}/v1/jobs", json=SPEC)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota")
        assert submit(client, key="kept") == kept, "what was taken may be asked again"
        for path in ("healthz", "readyz"):
            assert httpx.get(f"{server.url}/{path}").status_code == 200
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'nas_jobs{state="created"} 2.0' in metrics
        assert "/v1/jobs" in metrics
        spaces = {s["name"]: s["options"]["properties"] for s in client.spaces()}
        assert "n_stages" in spaces["mobilenet"]
        strategies = {s["name"]: s["options"]["properties"] for s in client.strategies()}
        assert strategies["random"]["rungs"] == {"type": "integer", "minimum": 1, "maximum": 10}


@given(
    st.text(
        st.characters(min_codepoint=33, codec="utf-8", exclude_characters="/?#.\x7f"),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=30, deadline=None)
def test_any_text_in_place_of_a_job_id_is_a_clean_refusal(server_url: str, text: str) -> None:
    answer = httpx.get(httpx.URL(f"{server_url}/v1/jobs").copy_with(path=f"/v1/jobs/{text}"))
    assert answer.status_code in (200, 307, 404, 422)


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> object:
    home = tmp_path_factory.mktemp("service")
    with Server(ServiceSettings(home, port=0, supervise=False)) as running:
        yield running.url


def test_waiting_ends_when_its_time_is_over(client: Client) -> None:
    job = client.submit(**SPEC)
    with pytest.raises(TimeoutError, match=job.job_id):
        job.wait(progress=False, timeout=1.0)


def test_tls_is_served_and_checked(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    settings = ServiceSettings(
        tmp_path / "home", port=0, supervise=False, tls_certificate=certificate, tls_key=key
    )
    with Server(settings) as server:
        assert server.url.startswith("https://")
        with Client(server.url, verify=str(certificate)) as client:
            assert client.jobs() == []
        with Client(server.url) as careful, pytest.raises(ServerError, match="certificate"):
            careful._transport.request("POST", "/preview", json={})


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "tls.pem", folder / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_answers_do_not_wait_for_acknowledgements(server: Server) -> None:
    with httpx.Client(base_url=server.url) as http:
        times = [http.get("/v1/jobs").elapsed.total_seconds() for _ in range(40)]
    assert min(times[20:]) < 0.03  # Nagle's algorithm and delayed ones together take 40 ms
