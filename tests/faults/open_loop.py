"""Requests that are sent when they are due, whatever became of those before them."""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """`seconds`: from the moment it was sent to the end of the answer; `headers`: with names in lower case."""

    seconds: float
    status: int
    headers: dict[str, str]
    body: bytes


def send(url: str, body: bytes, count: int, interval: float) -> list[Reply]:
    """POSTs `body` as JSON `count` times, one every `interval` seconds, each on a connection of its own."""
    return asyncio.run(_send(url, body, count, interval))


async def _send(url: str, body: bytes, count: int, interval: float) -> list[Reply]:
    started = time.monotonic()
    replies = []
    for number in range(count):
        await asyncio.sleep(started + number * interval - time.monotonic())
        replies.append(asyncio.create_task(_post(url, body)))
    return await asyncio.gather(*replies)


async def _post(url: str, body: bytes) -> Reply:
    address = urlsplit(url)
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    target = address._replace(scheme="", netloc="", path=address.path or "/").geturl()
    head = f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    seconds = time.monotonic() - started
    writer.close()
    lines, _, content = answer.partition(b"\r\n\r\n")
    first, *fields = lines.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return Reply(seconds, int(first.split()[1]), headers, content)
