"""`replicator COMMAND` runs one of the operator's commands.

    replicator check      try every permission and setting that replication needs
    replicator verify     compare both sides, and repair copies on demand
    replicator deletes    list, release or drop the deletes that the brake holds

`replicator COMMAND --help` explains a command. Each command reads the variables and credentials of this shell.
`python -m handler.tools.COMMAND` runs the same command without the package being installed.
"""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = ("check", "verify", "deletes")


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names. Return its exit code, or 2 if there is no such command."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in {"-h", "--help"}:
        print((__doc__ or "").strip())
        return 0
    if name not in COMMANDS:
        given = f"there is no command {name!r}" if name else "a command is missing"
        print(f"replicator: {given}: name one of {', '.join(COMMANDS)}, or --help", file=sys.stderr)
        return 2
    status: int = import_module(f"handler.tools.{name}").main(rest)  # a command loads only what it needs
    return status


if __name__ == "__main__":
    sys.exit(main())
