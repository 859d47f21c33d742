"""The service: jobs submitted, watched and kept alive over HTTP."""

from nas.service.app import create_app
from nas.service.server import Server
from nas.service.settings import ServiceSettings

__all__ = ["Server", "ServiceSettings", "create_app"]
