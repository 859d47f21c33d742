"""The seams of storage: jobs with their leases, trials with their log, tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from nas.core.account import Role, Token
from nas.core.device import Device, Work, WorkState
from nas.core.job import ALL_JOBS, Job, JobQuery, JobState, Lease
from nas.core.trial import Event, Task, Trial, TrialQuery, TrialState


class TrialStore(ABC):
    """The append-only event log of one job, and its trials. Safe for concurrent writers.

    What is returned is a copy: changing it does not change the store.
    """

    @abstractmethod
    def create(self, task: Task) -> Trial:
        """Store a new running trial with the next number, and its started event.

        Raises:
            ConflictError: written under a lease that is stale or released.
            NotFoundError: the job was deleted.
        """

    @abstractmethod
    def finish(self, trial: Trial) -> None:
        """Store a completed or failed trial, and its finished event, in one transaction.

        Raises:
            ConflictError: that trial is finished already, `trial` is still running, or it is
                written under a lease that is stale or released.
            NotFoundError: that trial was never created, or the job was deleted.
        """

    @abstractmethod
    def events(self, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The log past sequence number `after`, in order, at most `limit` of it."""

    @abstractmethod
    def finished(self, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The finished events among `events(after)`, at most `limit` of them.

        Their trials come without provenance and artifacts, which are most of what is stored.
        """

    @abstractmethod
    def last_sequence(self) -> int:
        """Sequence number of the newest event; 0 before the first."""

    @abstractmethod
    def trials(self) -> Sequence[Trial]:
        """Every trial as it stands now, by number."""

    @abstractmethod
    def trial(self, number: int) -> Trial:
        """One trial as it stands now.

        Raises:
            NotFoundError: it was never created.
        """

    @abstractmethod
    def page(self, query: TrialQuery) -> Sequence[Trial]:
        """The trials that `query` asks for, as they stand now."""

    @abstractmethod
    def counts(self) -> Mapping[TrialState, int]:
        """How many trials are in each state; 0 where none is."""


class AccountStore(ABC):
    """Tokens. A secret is told once, when its token is made; only its SHA-256 is stored.

    Secrets have 256 random bits, so nothing slower than one digest is needed to keep them.
    """

    @abstractmethod
    def create_token(
        self, name: str, owner: str, role: Role, expires_at: float | None = None
    ) -> tuple[Token, str]:
        """A new token and its secret, `nas_` and 43 characters of the URL-safe alphabet.

        Raises:
            InvalidInputError: no owner, or a name or owner of more than 200 characters.
        """

    @abstractmethod
    def tokens(self) -> Sequence[Token]:
        """Every token, revoked and expired ones too, newest first."""

    @abstractmethod
    def revoke_token(self, token_id: str) -> None:
        """Make a token useless from now on; revoking it again changes nothing.

        Raises:
            NotFoundError: no such token.
        """

    @abstractmethod
    def token_of(self, secret: str) -> Token | None:
        """The token of a secret; None if it is unknown, revoked or expired."""

    @abstractmethod
    def has_tokens(self) -> bool:
        """Whether any token was ever made, revoked and expired ones too.

        So revoking the last one does not open a service that asks for tokens where there are any.
        """


class DeviceStore(ABC):
    """Devices, and the work that waits for each. Safe for concurrent writers.

    One agent speaks for a device: another is refused while the first is live. Work is claimed by
    one agent, for as long as that one is heard of; a claim's secret signs its report, so that a
    piece of work is signed off once, however many agents believe that it is theirs.
    """

    @abstractmethod
    def register(
        self, name: str, instance: str, owner: str, facts: Mapping[str, Any], seconds: float
    ) -> Device:
        """Let `instance` speak for a device for `seconds`; what the device had claimed is queued.

        Raises:
            InvalidInputError: no name of a device, or an instance of more than 200 characters.
            ConflictError: another instance is live, or the device is another owner's.
        """

    @abstractmethod
    def beat(
        self, name: str, instance: str, seconds: float, holding: Sequence[str] = ()
    ) -> Sequence[Work]:
        """Stay live for `seconds` from now, and so the claims on `holding`; gives those that are.

        Claims that the agent does not know of, since the answer was lost, run out.

        Raises:
            NotFoundError: no such device.
            ConflictError: another instance speaks for it.
        """

    @abstractmethod
    def device(self, name: str) -> Device:
        """One device.

        Raises:
            NotFoundError: no such device.
        """

    @abstractmethod
    def devices(self) -> Sequence[Device]:
        """Every device, by name."""

    @abstractmethod
    def waiting(self) -> Mapping[str, int]:
        """How many open pieces of work each device has; 0 is left out."""

    @abstractmethod
    def forget(self, name: str) -> None:
        """Delete a device that is not live; its open work fails.

        Raises:
            NotFoundError: no such device.
            ConflictError: it is live.
        """

    @abstractmethod
    def submit(
        self,
        device: str,
        digest: str,
        settings: Mapping[str, Any],
        job_id: str = "",
        about: Mapping[str, Any] | None = None,
    ) -> Work:
        """Queue a file for a device.

        The same job's same file is the same work, unless that failed or was cancelled.

        Raises:
            NotFoundError: no such device.
        """

    @abstractmethod
    def claim(self, name: str, instance: str, seconds: float) -> Work | None:
        """Take the oldest work that nobody holds, for `seconds`; None where there is none.

        Work that was taken five times and never reported fails instead.

        Raises:
            NotFoundError: no such device.
            ConflictError: another instance speaks for it.
        """

    @abstractmethod
    def report(
        self,
        work_id: str,
        claim: str,
        profile: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Work:
        """Sign work off, with a profile or with what went wrong; again is no error.

        Also where the claim ran out, as long as nobody else took the work.

        Raises:
            NotFoundError: no such work.
            ConflictError: another claim holds it, or it was cancelled.
        """

    @abstractmethod
    def work(self, work_id: str) -> Work:
        """One piece of work.

        Raises:
            NotFoundError: no such work.
        """

    @abstractmethod
    def works(
        self,
        device: str | None = None,
        job_id: str | None = None,
        states: Sequence[WorkState] = (),
        limit: int | None = None,
    ) -> Sequence[Work]:
        """Work by device, job and state, newest first."""

    @abstractmethod
    def cancel(self, work_id: str) -> Work:
        """Cancel work that is open; its agent drops it. What is over stays as it is.

        Raises:
            NotFoundError: no such work.
        """


class JobStore(ABC):
    """All jobs, the trial store of each, and the tokens.

    A driver runs a job under a lease. Lease times are of the clients' clocks: they only tell
    whether a driver is still alive. Safety comes from the fence, which rises whenever a driver
    takes the job: who lost the lease, however late he notices, can write nothing any more.

    A job in state cancelled has no running trials: what moves it there fails them ("cancelled").
    """

    @abstractmethod
    def create_job(
        self,
        name: str,
        spec: Mapping[str, Any],
        owner: str = "",
        priority: int = 0,
        key: str | None = None,
    ) -> Job:
        """Store a new job in state created, with a new id.

        Given a `key`, the same owner's same key again returns the job stored then, also when both
        calls come at once.

        Raises:
            ConflictError: that job's specification is another now.
            InvalidInputError: name, owner or key of more than 200 characters.
        """

    @abstractmethod
    def has_key(self, owner: str, key: str) -> bool:
        """Whether a job was stored with that owner's key, so that `create_job` makes no other."""

    @abstractmethod
    def job(self, job_id: str) -> Job:
        """One job; `job_id` may be shortened to a prefix that fits only one.

        Raises:
            NotFoundError: none fits.
            InvalidInputError: several fit.
        """

    @abstractmethod
    def jobs(self, query: JobQuery = ALL_JOBS) -> Sequence[Job]:
        """The jobs that `query` asks for, newest first; created at once, by falling id.

        Raises:
            NotFoundError: the job to go on after is gone.
        """

    @abstractmethod
    def set_state(self, job_id: str, state: JobState, message: str = "") -> Job:
        """Move a job to `state`, whoever drives it.

        Raises:
            NotFoundError: no such job.
        """

    @abstractmethod
    def ask_for(self, job_id: str, wanted: JobState | None) -> Job:
        """Ask for a job to be paused or cancelled; None takes the wish back.

        Where nobody drives the job, it is so at once, and a lease that has run out ends.

        Raises:
            NotFoundError: no such job.
            ConflictError: the job is completed or cancelled.
            InvalidInputError: another state is wanted.
        """

    @abstractmethod
    def give_workers(self, job_id: str, n: int | None) -> Job:
        """Let a job run at most `n` trials at once; None for as many as there are.

        Raises:
            NotFoundError: no such job.
            InvalidInputError: fewer than 0.
        """

    @abstractmethod
    def extend(self, job_id: str, spec: Mapping[str, Any]) -> Job:
        """Replace the specification of a job, completed ones too; its state is created again.

        A lease that has run out ends.

        Raises:
            NotFoundError: no such job.
            ConflictError: it is driven, or cancelled.
        """

    @abstractmethod
    def delete_job(self, job_id: str) -> None:
        """Delete a job with its trials and events.

        Raises:
            NotFoundError: no such job.
            ConflictError: it is driven.
        """

    @abstractmethod
    def acquire(self, job_id: str, driver: str, seconds: float, over: int | None = None) -> Lease:
        """Take a job for `seconds`: it is running from now on. What is wanted of it stays.

        Args:
            job_id: of a job that is neither completed nor cancelled.
            driver: who takes it, at most 200 characters.
            seconds: until others may take it, unless renewed.
            over: fence of a lease that may be taken over before its time, since its driver is
                known to be dead.

        Raises:
            NotFoundError: no such job.
            ConflictError: another driver's lease is alive, or the job is completed or cancelled.
        """

    @abstractmethod
    def renew(self, lease: Lease, seconds: float) -> Job:
        """Hold a lease for `seconds` from now on, also one that ran out if nobody took the job.

        Raises:
            NotFoundError: the job was deleted.
            ConflictError: the lease is stale or ended.
        """

    @abstractmethod
    def release(self, lease: Lease, state: JobState, message: str = "") -> Job:
        """End a lease and move the job to `state`; nothing is wanted of it any more.

        Releasing it again to the same state changes nothing.

        Raises:
            NotFoundError: the job was deleted.
            ConflictError: the lease is stale or ended.
        """

    @abstractmethod
    def trial_store(self, job_id: str, lease: Lease | None = None) -> TrialStore:
        """The trials of one job; with a lease, written only as long as it holds.

        The fence is compared in the transaction that writes.

        Raises:
            NotFoundError: no such job.
            InvalidInputError: the lease is of another job.
        """

    @abstractmethod
    def accounts(self) -> AccountStore:
        """The tokens."""

    @abstractmethod
    def devices(self) -> DeviceStore:
        """The devices and their work; work of a job is cancelled and deleted with it."""
