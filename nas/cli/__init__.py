"""The `nas` command."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["app", "main"]


def main() -> None:
    """Run the command; an agent's loads neither torch, Ray nor a database."""
    if sys.argv[1:2] == ["agent"]:
        from workers.agent.command import main as agent

        sys.exit(agent(sys.argv[2:]))
    from nas.cli.app import main as others

    others()


def __getattr__(name: str) -> Any:
    """`app` is imported when it is first used."""
    if name != "app":
        raise AttributeError(f"module 'nas.cli' has no attribute {name!r}")
    from nas.cli.app import app

    return app
