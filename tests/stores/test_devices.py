"""Every store holds devices and their work alike."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nas.core import (
    ConflictError,
    DeviceStore,
    InvalidInputError,
    JobState,
    JobStore,
    NotFoundError,
    WorkState,
)
from nas.stores import open_store

DIGEST = "a" * 64
PROFILE = {"latency_ms": {"p50": 1.5}}
LONG = 60.0


@pytest.fixture
def devices(store: JobStore) -> DeviceStore:
    found = store.devices()
    for device in found.devices():  # PostgreSQL's is shared by this module's tests
        for work in found.works(device.name):
            found.cancel(work.work_id)
        found.register(device.name, device.instance, device.owner, {}, -1.0)
        found.forget(device.name)
    found.register("rpi4", "one", "ann", {"cpu": "A72"}, LONG)
    return found


def test_a_device_is_what_it_told(devices: DeviceStore) -> None:
    before = devices.device("rpi4")
    assert (before.owner, before.instance, before.facts) == ("ann", "one", {"cpu": "A72"})
    assert before.is_live(time.time())
    assert not before.is_live(time.time() + LONG + 1)
    again = devices.register("rpi4", "one", "ann", {"cpu": "A76"}, LONG)
    assert again.registered_at == before.registered_at
    assert list(devices.devices()) == [again]
    with pytest.raises(NotFoundError):
        devices.device("none")


@pytest.mark.parametrize("name", ["", "cpu", "a b", "-a", "a" * 65, "a/b", "a@b"])
def test_names_that_metrics_cannot_carry_are_refused(devices: DeviceStore, name: str) -> None:
    with pytest.raises(InvalidInputError, match="device"):
        devices.register(name, "one", "ann", {}, LONG)


def test_two_live_devices_of_one_name_are_refused(devices: DeviceStore) -> None:
    with pytest.raises(ConflictError, match="is live"):
        devices.register("rpi4", "two", "ann", {}, LONG)
    with pytest.raises(ConflictError, match="another owner"):
        devices.register("rpi4", "one", "bob", {}, LONG)
    devices.beat("rpi4", "one", -1.0)
    assert devices.register("rpi4", "two", "ann", {}, LONG).instance == "two"
    for call in (devices.beat, devices.claim):
        with pytest.raises(ConflictError, match="another agent"):
            call("rpi4", "one", LONG)
        with pytest.raises(NotFoundError):
            call("none", "one", LONG)


def test_work_is_claimed_in_order_and_signed_off_once(devices: DeviceStore) -> None:
    first = devices.submit("rpi4", DIGEST, {"n_runs": 30}, "job", {"key": 1})
    second = devices.submit("rpi4", "b" * 64, {}, "job")
    assert devices.waiting() == {"rpi4": 2}
    taken = devices.claim("rpi4", "one", LONG)
    assert taken is not None and taken.work_id == first.work_id
    assert (taken.settings, taken.about, taken.attempts) == ({"n_runs": 30}, {"key": 1}, 1)
    assert taken.claim
    with pytest.raises(ConflictError):
        devices.report(first.work_id, "guessed", PROFILE)
    done = devices.report(first.work_id, taken.claim, PROFILE)
    assert (done.state, done.profile, done.error) == (WorkState.DONE, PROFILE, None)
    assert devices.report(first.work_id, taken.claim, {"other": 1}) == done
    assert devices.device("rpi4").n_done == 1
    other = devices.claim("rpi4", "one", LONG)
    assert other is not None and other.work_id == second.work_id and other.claim
    assert devices.claim("rpi4", "one", LONG) is None
    failed = devices.report(other.work_id, other.claim, error="no memory")
    assert (failed.state, failed.error, failed.profile) == (WorkState.FAILED, "no memory", None)
    assert devices.waiting() == {}


def test_the_same_file_of_a_job_is_the_same_work_unless_it_failed(devices: DeviceStore) -> None:
    first = devices.submit("rpi4", DIGEST, {"n_runs": 30}, "again")
    assert devices.submit("rpi4", DIGEST, {"n_runs": 30}, "again").work_id == first.work_id
    assert devices.submit("rpi4", DIGEST, {"n_runs": 31}, "again").work_id != first.work_id
    assert devices.submit("rpi4", DIGEST, {"n_runs": 30}, "other").work_id != first.work_id
    assert devices.cancel(first.work_id).state is WorkState.CANCELLED
    assert devices.submit("rpi4", DIGEST, {"n_runs": 30}, "again").work_id != first.work_id
    with pytest.raises(NotFoundError):
        devices.submit("none", DIGEST, {})
    assert len(devices.works(job_id="again", states=(WorkState.QUEUED,))) == 2
    assert len(devices.works(device="rpi4", limit=3)) == 3


def test_work_of_a_device_that_vanished_goes_back(devices: DeviceStore) -> None:
    devices.submit("rpi4", DIGEST, {})
    lost = devices.claim("rpi4", "one", -1.0)
    assert lost is not None and lost.claim
    late = devices.claim("rpi4", "one", LONG)
    assert late is not None and late.work_id == lost.work_id and late.attempts == 2
    with pytest.raises(ConflictError):
        devices.report(lost.work_id, lost.claim, PROFILE)
    assert devices.claim("rpi4", "one", LONG) is None
    devices.register("rpi4", "one", "ann", {}, LONG)  # started anew: what it held is queued
    assert late.claim is not None
    assert devices.report(late.work_id, late.claim, PROFILE).state is WorkState.DONE


def test_a_heartbeat_holds_what_is_claimed(devices: DeviceStore) -> None:
    devices.submit("rpi4", DIGEST, {})
    taken = devices.claim("rpi4", "one", 0.0)
    assert taken is not None
    assert list(devices.beat("rpi4", "one", LONG)) == []
    (held,) = devices.beat("rpi4", "one", LONG, [taken.work_id])
    assert held.work_id == taken.work_id and (held.lease_until or 0) > time.time()
    assert devices.claim("rpi4", "one", LONG) is None
    devices.cancel(taken.work_id)
    assert list(devices.beat("rpi4", "one", LONG, [taken.work_id])) == []
    with pytest.raises(ConflictError, match="cancelled"):
        devices.report(taken.work_id, taken.claim or "", PROFILE)


def test_work_that_takes_the_device_down_fails_in_the_end(devices: DeviceStore) -> None:
    bad = devices.submit("rpi4", DIGEST, {})
    good = devices.submit("rpi4", "b" * 64, {})
    for _ in range(5):
        taken = devices.claim("rpi4", "one", -1.0)
        assert taken is not None and taken.work_id == bad.work_id
    taken = devices.claim("rpi4", "one", LONG)
    assert taken is not None and taken.work_id == good.work_id
    found = devices.work(bad.work_id)
    assert found.state is WorkState.FAILED and "never reported" in (found.error or "")


def test_a_device_that_is_gone_can_be_forgotten(devices: DeviceStore) -> None:
    work = devices.submit("rpi4", DIGEST, {})
    with pytest.raises(ConflictError, match="live"):
        devices.forget("rpi4")
    devices.beat("rpi4", "one", -1.0)
    devices.forget("rpi4")
    assert devices.work(work.work_id).state is WorkState.FAILED
    with pytest.raises(NotFoundError):
        devices.forget("rpi4")


def test_work_goes_with_its_job(store: JobStore, devices: DeviceStore) -> None:
    job = store.create_job("a", {})
    work = devices.submit("rpi4", DIGEST, {}, job.job_id)
    store.ask_for(job.job_id, JobState.CANCELLED)
    assert devices.work(work.work_id).state is WorkState.CANCELLED
    store.delete_job(job.job_id)
    with pytest.raises(NotFoundError):
        devices.work(work.work_id)


def test_of_many_who_claim_at_once_each_gets_its_own(url: str, devices: DeviceStore) -> None:
    if url == "memory":
        stores = [devices] * 4
    else:
        stores = [open_store(url).devices() for _ in range(4)]
        for found in stores[1:]:
            assert found.device("rpi4").instance == "one"
    n = 40
    for i in range(n):
        devices.submit("rpi4", f"{i:064x}", {})

    def drain(found: DeviceStore) -> list[str]:
        taken = []
        while (work := found.claim("rpi4", "one", LONG)) is not None:
            taken.append(work.work_id)
            found.report(work.work_id, work.claim or "", PROFILE)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [work for part in pool.map(drain, stores) for work in part]
    assert len(taken) == len(set(taken)) == n
    assert devices.device("rpi4").n_done == n


def test_what_is_returned_is_a_copy(devices: DeviceStore) -> None:
    settings = {"n_runs": 30}
    work = devices.submit("rpi4", DIGEST, settings)
    settings["n_runs"] = 31
    devices.device("rpi4").facts["cpu"] = "none"  # type: ignore[index]
    assert devices.work(work.work_id).settings == {"n_runs": 30}
    assert devices.device("rpi4").facts == {"cpu": "A72"}
