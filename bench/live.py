"""Sends a file once to the first client that connects on loopback, as fast as it takes it, and closes; prints its port first.

``python bench/live.py FILE``.  The bytes go from the page cache to the socket without passing through this process.
"""

import socket
import sys
from pathlib import Path


def main() -> None:
    path = Path(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0)) as server, path.open("rb") as file:
        print(server.getsockname()[1], flush=True)
        server.settimeout(60)
        client, _address = server.accept()
        with client:
            client.settimeout(None)
            client.sendfile(file)


if __name__ == "__main__":
    main()
