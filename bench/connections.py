"""What thousands of connections that say nothing cost the gateway, and those who ask meanwhile.

    python bench/connections.py [--idle 10000] [--descriptors 1024]

Prints how long hits take before and while so many clients are connected, slow ones among them that send a
byte of their headers a second; the gateway's memory for each; and after how many seconds all were
disconnected.
`--descriptors` is how many files the gateway may have open: fewer than there are connections is to be no
trouble either. Exit code 1 where a request is not answered, or a connection is still there after 30 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import uvloop
from soak import Asked, Client, House, Wrong

ROUNDS = 300
#: one in so many connections sends its headers by the byte
SLOW = 10
#: seconds
LONGEST = 30.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def hits(house: House) -> str:
    """Asks one after the other, each time as a client that has just connected. Raises Wrong."""
    took = []
    for _ in range(ROUNDS):
        client = Client(house.port, Counter(), Counter())
        began = time.perf_counter()
        await client.ask(Asked("openai", 1, 1, reworded=False, bypass=False, stream=False, leaves=False))
        took.append((time.perf_counter() - began) * 1000)
        client.close()
    took.sort()
    return f"p50 {statistics.median(took):.1f} ms, p99 {took[int(ROUNDS * 0.99)]:.1f} ms"


async def keep_sending(connections: Sequence[Connection]) -> None:
    for _, writer in connections:
        writer.write(b"GET / HTTP/1.1\r\nx: ")
    while True:
        await asyncio.sleep(1)
        for _, writer in connections:
            writer.write(b"x")


async def measure(house: House, idle: int) -> int:
    await hits(house)
    print(f"hits before:                 {await hits(house)}")
    before = house.memory()
    connections = [await asyncio.open_connection("127.0.0.1", house.port) for _ in range(idle)]
    opened = time.perf_counter()
    slow = asyncio.create_task(keep_sending(connections[::SLOW]))
    print(f"hits with {idle:,} connections: {await hits(house)}")
    held = house.descriptors()
    print(
        f"memory: {(house.memory() - before) * 1e3 / idle:.1f} kB a connection; {held:,} descriptors are open"
    )
    ended = asyncio.gather(*(reader.read() for reader, _ in connections), return_exceptions=True)
    try:
        async with asyncio.timeout(LONGEST):
            await ended
    except TimeoutError:
        print(f"some are still connected after {LONGEST:.0f} s")
        return 1
    finally:
        slow.cancel()
    print(f"all were disconnected after {time.perf_counter() - opened:.0f} s")
    print(f"hits after:                  {await hits(house)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--descriptors", type=int)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="llmhost-connections-") as name:
        house = House(Path(name), 1, descriptors=options.descriptors)
        try:
            with house.up():
                return uvloop.run(measure(house, options.idle))
        except Wrong as wrong:
            print(f"a request was not answered: {wrong}")
            return 1


if __name__ == "__main__":
    sys.exit(main())
