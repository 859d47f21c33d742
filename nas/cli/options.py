"""Options that several commands share, and how answers are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nas.core import InvalidInputError
from nas.workspace import Workspace

out, err = Console(), Console(stderr=True)

Home = Annotated[Path, typer.Option(envvar="NAS_HOME", help="Folder for database and models.")]
Store = Annotated[
    str | None, typer.Option(envvar="NAS_STORE", help="Database URL; default: nas.db in HOME.")
]
Server = Annotated[
    str | None,
    typer.Option(envvar="NAS_SERVER", help="URL of a server to ask; its token: NAS_TOKEN."),
]
JobId = Annotated[str, typer.Argument(help="Job id, or the beginning of one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Executor = Annotated[str, typer.Option(help="ray, or local for processes of this machine.")]
Workers = Annotated[
    int | None, typer.Option(help="Trials at once; default: one per CPU on Ray, else 1.")
]
Address = Annotated[str | None, typer.Option(help="Ray cluster; default: start one here.")]
Data = Annotated[
    str, typer.Option(help="digits, mnist, an .npz file, or a folder <class>/<image>.")
]
DataLimit = Annotated[int | None, typer.Option(help="Use at most this many images.")]
Space = Annotated[str, typer.Option(help="Family of networks: mobilenet or cells.")]
SpaceOption = Annotated[
    list[str] | None, typer.Option(help='Narrow the space, for example "n_stages=2". Repeatable.')
]
Objectives = Annotated[
    list[str] | None, typer.Option("--objective", help="metric, metric:min or metric:max.")
]
Constraints = Annotated[
    list[str] | None, typer.Option("--constraint", help='For example "weight_bytes<=20000".')
]
Device = Annotated[list[str] | None, typer.Option(help="Where to measure; cpu is this machine's.")]
Trials = Annotated[int, typer.Option(help="Candidates to train.")]
FinalistCount = Annotated[int, typer.Option(help="Candidates to deploy and measure.")]
TrainingOption = Annotated[
    list[str] | None,
    typer.Option(help='Epochs and timed runs, for example "epochs=20". Repeatable.'),
]
Candidates = Annotated[
    list[Path] | None,
    typer.Option("--candidate", help="Try this first: genotype.json of an export. Repeatable."),
]
SupernetOption = Annotated[
    list[str] | None,
    typer.Option(help='Score by shared weights, for example "epochs=200". Repeatable.'),
]
DifferentiableOption = Annotated[
    list[str] | None,
    typer.Option(help='Learn a distribution first, for example "epochs=20". Repeatable.'),
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]


def checked_workers(workers: int | None) -> int | None:
    """`workers`, if there may be so many.

    Raises:
        InvalidInputError: fewer than 1.
    """
    if workers is not None and workers < 1:
        raise InvalidInputError("workers", workers, "at least 1")
    return workers


def existing(home: Path, store: str | None) -> Workspace:
    """The workspace at `home`, which must be one.

    Raises:
        InvalidInputError: no search was run there.
    """
    if store is None and not (home / "nas.db").is_file():
        raise InvalidInputError("home", str(home), "a folder in which a search was run")
    return Workspace.open(home, store)


def show(content: Any, as_json: bool) -> None:
    """Print an answer for people or for machines."""
    if as_json:
        typer.echo(json.dumps(content, indent=2))
    elif isinstance(content, dict):
        out.print_json(json.dumps(content))
    else:
        out.print(content)
