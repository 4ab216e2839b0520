"""The engine of a configuration, and nothing else: no API, no views, no files, no Guardian.

    python tests/bench/engine_alone.py healer.yaml

Ends at SIGTERM, as `healer serve` does.
"""

import asyncio
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from healer.bootstrap import build
from healer.cli.source import config_in


async def main(file: Path) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    healer = build(config_in(file))
    try:
        await healer.engine.start()
        await told.wait()
        await healer.engine.stop()
    finally:
        await healer.log.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
