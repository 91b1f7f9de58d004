"""A real Ceph of one node on 127.0.0.1 (a monitor, a storage daemon and an object gateway), for tests of S3."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.debian import why_not_installed

PACKAGES = ("ceph-mon", "ceph-osd", "radosgw", "ceph-common")
PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "setpriv")
COMMAND_SECONDS = 300
STOP_SECONDS = 20

# One node, so one copy of everything, one placement group a pool and nobody to authenticate to. Without both addresses
# the storage daemon would listen to the network; without `crc` the gateway would insist on a key of the monitor's.
# Objects are kept in memory, which starts in a fifth of the time that Ceph's store on disk takes.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor_port}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
run_dir = {folder}
crash_dir = {folder}
admin_socket = {folder}/$name.asok
log_file = {folder}/$name.log
mon_cluster_log_file = {folder}/cluster.log
mon_data = {folder}/mon
mon_data_avail_crit = 1
paxos_propose_interval = 0.05
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_pool_default_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
rgw_rados_pool_pg_num_min = 1
rgw_frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{secure_port} ssl_certificate={certificate}
[mon]
public_addrv = [v2:127.0.0.1:{monitor_port}]
"""


class Ceph:
    """The gateway speaks S3, and SNS for the topics of bucket notifications.

    `endpoint` and `secure_endpoint`: its URLs by HTTP and by HTTPS; `authority`: the file with the certificate of who
    signed the latter's.
    """

    region = "us-east-1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self.port, self._secure_port, self._monitor_port = _free_ports(3)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.secure_endpoint = f"https://127.0.0.1:{self._secure_port}"
        self.authority = folder / "authority.pem"
        self._daemons: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 reads in a process that is to use this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def client(self, service: str = "s3") -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )

    def start(self) -> None:
        """Returns when the gateway answers."""
        certificate = self._write_certificate()
        ports = {"port": self.port, "secure_port": self._secure_port, "monitor_port": self._monitor_port}
        configuration = CONFIGURATION.format(fsid=uuid.uuid4(), folder=self.folder, certificate=certificate, **ports)
        (self.folder / "ceph.conf").write_text(configuration)
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
        self._run("ceph-mon", "--mkfs", "-i", "a")
        self._start("ceph-mon", "-f", "-i", "a")
        store = str(uuid.uuid4())
        self._run("ceph", "--connect-timeout", "120", "osd", "new", store)
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", store)
        self._start("ceph-osd", "-f", "-i", "0")
        self._add_user("tests", self.access_key, self.secret_key)
        gateway = self._start("radosgw", "-f", "-n", "client.gateway")
        deadline = time.monotonic() + COMMAND_SECONDS
        while not _listens(self.port):
            assert gateway.poll() is None, self._log("radosgw")
            assert time.monotonic() < deadline, self._log("radosgw")
            time.sleep(0.05)

    def add_user(self, name: str) -> dict[str, str]:
        """Another user, who may use no bucket but their own: what boto3 reads of their keys."""
        access_key, secret_key = secrets.token_hex(10), secrets.token_hex(20)
        self._add_user(name, access_key, secret_key)
        return {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}

    def _add_user(self, name: str, access_key: str, secret_key: str) -> None:
        keys = ("--access-key", access_key, "--secret", secret_key)
        self._run("radosgw-admin", "user", "create", "--uid", name, "--display-name", name, *keys)

    def stop(self) -> None:
        """The newest first, as each needs those before it to end in order."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _write_certificate(self) -> Path:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        certificate = self.folder / "gateway.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        return certificate

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, env=self._ceph_environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        assert done.returncode == 0, f"{' '.join(command[:2])}: {done.stderr[-2000:]}"

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{command[0]}.out").open("wb") as output:
            # The kernel kills the daemon when the test run ends, even by SIGKILL.
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self._ceph_environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._daemons.append(daemon)
        return daemon

    @property
    def _ceph_environment(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}

    def _log(self, program: str) -> str:
        return f"{program}: {(self.folder / f'{program}.out').read_text()[-2000:]}"


def started_ceph() -> Iterator[Ceph]:
    """For a fixture of the whole session. Skips where Ceph is not installed and cannot be."""
    if reason := why_not_installed(PACKAGES, PROGRAMS):
        pytest.skip(f"no Ceph for tests of S3: {reason}")
    # Unix sockets live in it, and the address of one holds 108 bytes, so pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="ceph-", dir="/tmp"))
    ceph = Ceph(folder)
    try:
        ceph.start()
        yield ceph
    finally:
        ceph.stop()
        shutil.rmtree(folder)


def _free_ports(count: int) -> list[int]:
    """Different ones: each is held until all are found."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
