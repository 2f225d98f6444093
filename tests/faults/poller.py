"""Asks a server for its liveness again and again, in a process of its own so that nothing but the server can be
late: `python -m tests.faults.poller PORT`. Says `ready` after the first answer; when its standard input ends,
the longest round trip in seconds.
"""

import select
import socket
import sys
import time

REQUEST = b"GET /health/liveness HTTP/1.1\r\nHost: x\r\n\r\n"
PAUSE_S = 0.002
TIMEOUT_S = 120


def main(port: int) -> None:
    longest = 0.0
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as sock:
        while not longest or not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            started = time.perf_counter()
            sock.sendall(REQUEST)
            if not sock.recv(65_536):
                raise ConnectionError("the server has ended the connection")
            if not longest:
                say("ready")
            longest = max(longest, time.perf_counter() - started)
    say(str(longest))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
