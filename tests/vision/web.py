"""Real web servers on this machine that answer well, badly, slowly and never."""

import datetime
import gzip
import http.server
import socket
import threading

import pytest

IMAGE = bytes(range(256)) * 1000
# Written as they are: an answer of HTTP 0.9, a header without an end, too many of them.
RAW = {
    "/nine": b"no status line\r\n" * 10,
    "/endless-header": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000,
    "/many-headers": b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 1000,
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, self.headers["Host"]))
        name = self.path.split("?")[0].removeprefix("/images")
        if name.startswith("/redirect/"):
            self.answer(302, b"elsewhere", Location=self.path[len("/redirect/") :])
        elif name == "/loop":
            self.answer(302, b"", Location="/loop")
        elif name == "/announced":
            self.answer(200, b"", **{"Content-Length": "99000000"})
        elif name == "/endless":
            self.stream(b"x" * 10000, 0)
        elif name == "/dripping":
            self.stream(b"x", 0.05)
        elif name == "/dripping-header":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self.drip(b"x", 0.05)
        elif name in RAW:
            self.wfile.write(RAW[name])
        elif name == "/bomb":
            self.answer(200, gzip.compress(bytes(10_000_000)), **{"Content-Encoding": "gzip"})
        elif name == "/cut":
            self.answer(200, b"half", **{"Content-Length": "8"})
        elif name == "/missing":
            self.answer(404, b"no")
        else:
            self.answer(200, self.server.image)

    def answer(self, status, body, **headers):
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(body)))
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, part, pause):
        self.send_response(200)
        self.end_headers()
        self.drip(part, pause)

    def drip(self, part, pause):
        for _ in range(10000):
            if self.server.stopping.wait(pause):
                return
            try:
                self.wfile.write(part)
            except OSError:
                self.server.hung_up.set()
                return

    def log_message(self, *_):
        return


def serve(address="127.0.0.1", context=None):
    class Server(http.server.HTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def handle_error(self, *_):
            return  # clients that hang up or refuse the certificate are part of the tests

    server = Server((address, 0), Handler)
    server.seen, server.image = [], IMAGE
    server.stopping, server.hung_up = threading.Event(), threading.Event()
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def stop():
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()

    return server, stop


def self_signed(folder, name):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path
