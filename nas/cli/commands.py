"""All commands in one, and what becomes of errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import typer
from rich.text import Text

from nas.cli import benchmarks, devices, jobs, search, service
from nas.cli.options import err
from nas.cli.top import top
from nas.core import NasError

app = typer.Typer(
    help="Search networks over architecture x pruning x quantization, measured as shipped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(search.search, search.watch, search.resume, search.demo, search.preview),
    *(jobs.show, jobs.front, jobs.export, jobs.report),
    *(jobs.cancel, jobs.pause, jobs.extend, jobs.delete),
    *(benchmarks.benchmark, benchmarks.micro_benchmark, service.serve, service.agent, top),
)
app.command("jobs")(jobs.list_jobs)
for command in COMMANDS:
    app.command()(command)
app.command(hidden=True)(service.drive)
app.add_typer(service.tokens, name="token")
app.add_typer(devices.devices, name="devices")


def main() -> None:
    """Run the command; our errors are one sentence and exit code 2, Ctrl-C is 130."""
    logging.getLogger("nas").addHandler(logging.NullHandler())
    try:
        app(standalone_mode=True)
    except NasError as error:
        err.print(Text.assemble(("error ", "red"), str(error)), soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)
