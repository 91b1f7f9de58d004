import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """A web server on 127.0.0.1 that gives `files` (path -> bytes), with byte ranges, and misbehaves as told."""

    files: dict[str, bytes]
    url: str = ""
    # Answered to the first requests, one each.
    statuses: list[int] = field(default_factory=list)
    # After so many bytes of the body the first connections break, one each.
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    token: str | None = None
    # (path, Range header) of each request that came.
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def wanted_ranges(self) -> list[str | None]:
        return [wanted for _, wanted in self.requests]


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    server = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.requests.append((self.path, wanted))
            if server.statuses:
                return self.refuse(server.statuses.pop(0))
            if self.path not in server.files:
                return self.refuse(404)
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                return self.refuse(401)
            return self.give(server.files[self.path], wanted if server.ranges else None)

        def refuse(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def give(self, data: bytes, wanted: str | None) -> None:
            first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if wanted and first >= len(data):
                return self.refuse(416)
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(data) - first))
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else None
            self.wfile.write(data[first:] if cut is None else data[first : first + cut])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
