"""The `nas` command."""

from nas.cli.app import app, main

__all__ = ["app", "main"]
