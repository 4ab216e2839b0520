"""A component that takes as long to start as a small Python service does: the demo's, behind the
imports that such a service makes."""

import asyncio  # noqa: F401 - the imports are the cost
import email.parser  # noqa: F401
import http.server  # noqa: F401
import logging.handlers  # noqa: F401
import sqlite3  # noqa: F401
import sys
import urllib.request  # noqa: F401
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from healer.demo.component import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
