"""Devices that are tables: imported below a workspace, then named by jobs as any device is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nas.core import ConflictError, InvalidInputError, UnknownNameError
from nas.core.device import LOCAL
from nas.core.goals import metric_and_device, on_device
from nas.spec import JobSpec
from workers.imported import COLUMNS, ImportedTable, imported_names, imported_path
from workers.simulated import SimulatedDevices


def import_table(home: Path, name: str, file: Path, agents: Iterable[str]) -> ImportedTable:
    """Read another team's table and keep it below `home`; nothing is written on an error.

    A name's figures stay those of one file, so that jobs that used it can be compared: the same
    file may be imported again, another one needs another name.

    Args:
        home: of the workspace; made if need be.
        name: of the device from now on.
        file: see `workers.imported`.
        agents: names that devices with agents have.

    Raises:
        InvalidInputError: a name that is taken or cannot be, or a file that is no such table; names
            the entry, its value and what would be right.
    """
    table = ImportedTable.load(name, file)
    if name in agents:
        raise InvalidInputError("device", name, "another name: a device with an agent has this one")
    known = ImportedTable.read(home, name)
    if known is not None and known.digest != table.digest:
        expected = "another name: a table with other entries has this one"
        raise InvalidInputError("device", name, f"{expected} ({imported_path(home, name)})")
    if known is None:
        table.save(home)
    return table


def with_agents(spec: JobSpec, home: Path) -> tuple[str, ...]:
    """The devices of a job that are neither this machine nor an imported table."""
    tables = imported_names(home)
    return tuple(name for name in spec.remote_devices if name not in tables)


def simulated(spec: JobSpec, home: Path) -> SimulatedDevices:
    """The devices of a job that are imported tables."""
    tables = (ImportedTable.read(home, name) for name in spec.remote_devices)
    return SimulatedDevices(tuple(table for table in tables if table is not None))


def require_told(spec: JobSpec, home: Path) -> None:
    """Refuse goals that an imported table tells nothing of.

    Raises:
        InvalidInputError: one of them, or a table that is broken.
    """
    tables = [table.device for table in simulated(spec, home).tables]
    known = [on_device(metric, name) for name in tables for metric in COLUMNS]
    for field, goals in (
        ("objectives", spec.goals.objectives),
        ("constraints", spec.goals.constraints),
    ):
        for goal in goals:
            if metric_and_device(goal.metric)[1] in tables and goal.metric not in known:
                raise UnknownNameError(field, goal.metric, known)


def require_no_table(home: Path, name: str, verb: str) -> None:
    """Refuse what only a device with an agent can do.

    Args:
        home: of the workspace.
        name: of the device.
        verb: what was to be done with it.

    Raises:
        ConflictError: it is an imported table.
    """
    if name != LOCAL and name in imported_names(home):
        raise ConflictError(f"device {name} is an imported table: it cannot be {verb}")
