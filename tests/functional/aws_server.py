"""Runs the real aws command line without its start of half a second a time; run in aws-sam-cli's environment.

Listens on a Unix socket, its first argument. Each connection brings a command's words, environment and open files. A
fork of this process, which has the command line loaded, runs it. Its client is in served.py.
"""

import json
import os
import signal
import socket
import sys
import traceback

import awscli.clidriver  # type: ignore[import-not-found] # of another environment


def _answer(connection: socket.socket) -> None:
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as asked:
        words, environment, folder = json.loads(asked.read(int.from_bytes(size, "big")))
    for number, file in enumerate(files):
        os.dup2(file, number)
    own = {"AWS_DATA_PATH": os.environ["AWS_DATA_PATH"]}  # set by the command line when it was loaded
    os.environ.clear()
    os.environ.update(environment | own)
    os.chdir(folder)
    sys.argv = ["aws", *words]
    code = 255
    try:
        code = awscli.clidriver.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 255
    except BaseException:  # noqa: BLE001 - the fork must not go on where its parent does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code & 255]))
        os._exit(0)


def main() -> None:
    """Serve until it is ended."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks leave nothing behind
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                _answer(connection)
            connection.close()


if __name__ == "__main__":
    main()
