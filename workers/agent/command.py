"""The command line of the agent."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from nas.core import NasError
from workers.agent.agent import Agent, AgentSettings
from workers.runtimes import DEFAULT, RUNTIMES

MIB = 2**20


def parser() -> argparse.ArgumentParser:
    """Of the options."""
    found = argparse.ArgumentParser(prog="nas agent", description="Time files for a server.")
    server, token = os.environ.get("NAS_SERVER"), os.environ.get("NAS_TOKEN")
    found.add_argument("--server", default=server, required=server is None, help="its URL")
    found.add_argument("--name", required=True, help="of this device, as jobs name it")
    found.add_argument("--token", default=token, help="of role device; default: NAS_TOKEN")
    found.add_argument("--folder", type=Path, help="for its state; default: ~/.nas-agent/NAME")
    found.add_argument("--time-limit", type=float, default=600.0, help="seconds a file may take")
    found.add_argument("--memory-limit", type=float, help="MiB a file may take")
    found.add_argument("--runtime", default=DEFAULT, help=", ".join(RUNTIMES))
    found.add_argument("--through", help='"ssh [options] HOST" or "adb [options]": time there')
    found.add_argument("--remote-python", default="python3", help="of the device, with --through")
    found.add_argument("--remote-folder", help="on the device, with --through")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an agent until Ctrl-C or SIGTERM; errors of ours are one sentence and status 2."""
    given = parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    limit = given.memory_limit
    try:
        settings = AgentSettings(
            server=given.server,
            name=given.name,
            token=given.token,
            folder=given.folder or Path.home() / ".nas-agent" / given.name,
            max_seconds=given.time_limit,
            max_bytes=None if limit is None else int(limit * MIB),
            runtime=given.runtime,
            through=given.through,
            remote_python=given.remote_python,
            remote_folder=given.remote_folder,
        )
        Agent(settings).run()
    except NasError as error:
        print(f"error {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
