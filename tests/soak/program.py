"""A component that does not work on whatever port it is started: as long as its first argument, a
file, says `exit` it ends at once, as long as it says `mute` it listens nowhere and lives on."""

import os
import sys
import time

sys.path[0] = sys.argv[1]

import component  # noqa: E402 - the demo's, by its directory: importing the package would cost time

if __name__ == "__main__":
    try:
        with open(sys.argv[2]) as file:  # noqa: PTH123 - pathlib costs start time
            says = file.read()
    except FileNotFoundError:
        sys.exit(component.main(sys.argv[3:]))
    if says == "exit":
        sys.exit(4)
    while os.path.exists(sys.argv[2]):  # noqa: PTH110 - as above
        time.sleep(0.05)
    time.sleep(3600)
