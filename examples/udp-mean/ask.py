"""Sends float64 values in one datagram and prints the mean that comes back.

python ask.py VALUE ... [--to HOST:PORT]
"""

import socket
import struct
import sys


def ask(values: list[float], host: str = "127.0.0.1", port: int = 9998, seconds: float = 5) -> float:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        client.sendto(struct.pack(f"<{len(values)}d", *values), (host, port))
        (mean,) = struct.unpack("<d", client.recv(64))
    return float(mean)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    where = "127.0.0.1:9998"
    if "--to" in arguments:
        position = arguments.index("--to")
        where = arguments[position + 1]
        del arguments[position : position + 2]
    host, _, port = where.rpartition(":")
    print(ask([float(argument) for argument in arguments], host, int(port)))
