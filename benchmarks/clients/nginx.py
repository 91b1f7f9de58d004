"""A server that reads the whole body and answers at once: one worker of nginx on a free port of 127.0.0.1."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from clients.listening import wait_until_listening
from contestants import stop
from deployment import free_port

# A user's PATH on Debian leaves out the folder that its nginx is in.
FOLDERS = "/usr/sbin:/usr/local/sbin"

# `return` alone would answer before the body has come: `mirror` waits for it, as a server that classifies must.
# There is no file of any name here, so that the answer is what a missing file gets.
CONFIGURATION = """\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  log_not_found off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  client_max_body_size 16m;
  client_body_buffer_size 16m;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  default_type application/json;
  server {{
    listen 127.0.0.1:{port};
    if ($content_length != {body_bytes}) {{ return 400; }}
    location = /classify {{
      mirror /body;
      error_page 404 =200 @labels;
    }}
    location = /body {{ internal; return 204; }}
    location @labels {{ return 200 '[["a","b","c","d","e"]]'; }}
  }}
}}
"""


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path=FOLDERS)


@contextmanager
def answering(program: str, body_bytes: int) -> Iterator[str]:
    """The address to which to POST `body_bytes` bytes, keep-alive; any other length is answered 400.

    Raises LoadError when nginx does not start.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="vs") as name:
        folder, log = Path(name), Path(name, "log")
        # nginx started by root gives its worker to nobody, who must find its folders.
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(CONFIGURATION.format(port=port, body_bytes=body_bytes))
        with log.open("w") as output:
            process = psutil.Popen(
                [program, "-p", name, "-e", "stderr", "-c", "nginx.conf"],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until_listening(process, port, log)
            yield f"http://127.0.0.1:{port}/classify"
        finally:
            stop(process)
