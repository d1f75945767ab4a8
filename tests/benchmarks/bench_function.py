"""The handler as one instance of the function: each line on standard input is an event, each answered by a line."""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Serve until standard input ends. What the handler prints, for CloudWatch, goes to standard error here."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from handler import app  # what it prints must not be taken for an answer
    from local_emulator.context import Context

    print("READY", file=answers, flush=True)
    context = Context()
    for line in sys.stdin:
        answer = app.lambda_handler(json.loads(line), context)
        print("DONE", json.dumps(answer), file=answers, flush=True)
        context = Context()  # the next event's: to make it is Lambda's work, and no part of ours


if __name__ == "__main__":
    main()
