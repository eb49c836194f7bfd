"""A line server for the example: sends ``key,number`` lines to whoever connects, then closes.

python server.py [HOST:PORT] [SECONDS]
"""

import asyncio
import sys


async def serve(address: str, seconds: float) -> None:
    host, _, port = address.rpartition(":")
    done = asyncio.Event()

    async def client(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(round(seconds * 20)):
            writer.write(f"{'abc'[number % 3]},{number}\n".encode())
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        done.set()

    server = await asyncio.start_server(client, host, int(port))
    print("listening on", *(f"{s.getsockname()[0]}:{s.getsockname()[1]}" for s in server.sockets), flush=True)
    async with server:
        await done.wait()


if __name__ == "__main__":
    asyncio.run(
        serve(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9999", float((sys.argv + ["3"] * 3)[2]))
    )
