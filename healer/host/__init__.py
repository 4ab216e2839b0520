"""The machine: the only code that touches processes, sockets and launchers."""
