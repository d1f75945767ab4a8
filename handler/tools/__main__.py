"""`replicator COMMAND`: the operator's commands, by one name.

    replicator check      try every permission and setting that replication needs
    replicator verify     compare both sides, and repair what is not equal
    replicator deletes    list, release or drop the deletes that are held back

`replicator COMMAND --help` explains a command. Each reads the variables and credentials of the shell, as the function
does. `python -m handler.tools.COMMAND` is the same without installing the package.
"""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = ("check", "verify", "deletes")


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names, and return its exit status; 2 if there is no such command."""
    name, *rest = sys.argv[1:] if arguments is None else arguments or [""]
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
