"""`python -m workers.agent` is `nas agent`, where only this package is installed."""

import sys

from workers.agent.command import main

sys.exit(main())
