"""Machines inside this one, each with its processes, its network and its /tmp/ray, where this user may make them."""

import os
import subprocess
from pathlib import Path

import psutil

SWITCH = "eth0"
END_SECONDS = 60
# The kernel ends what is started so when the test run ends, even by SIGKILL.
WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"]
NAMESPACES = ["unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"]


class Host:
    """This machine itself, which stands for another one where no namespaces can be made."""

    address = "127.0.0.1"

    def command(self, *words: object, folder: Path = Path("/")) -> list[str]:
        """What to start here for `words` to run there, in `folder`."""
        return [*WITH_PARENT, "env", f"--chdir={folder}", *map(str, words)]

    def run(self, *words: object) -> None:
        subprocess.run(self.command(*words), check=True, timeout=END_SECONDS)

    def power_off(self) -> None:
        """There is nothing of its own to end."""


class Namespace(Host):
    """A host in namespaces of its own; they and all in them end with its first process."""

    def __init__(self, address: str, folder: Path) -> None:
        """`folder`: the host's /tmp/ray, so that the Unix sockets in it have short names however deep it is."""
        self.address = address
        folder.mkdir(parents=True)
        Path("/tmp/ray").mkdir(exist_ok=True)
        # The shell collects processes whose parents are gone, as the first process of a machine must.
        script = 'mount --bind "$0" /tmp/ray && ip link set lo up && echo up && sleep infinity & wait'
        with folder.with_suffix(".log").open("wb") as log:
            self._unshare = subprocess.Popen(
                [*WITH_PARENT, *NAMESPACES, "sh", "-c", script, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == b"up\n", folder.with_suffix(".log").read_text()
        (self._first,) = psutil.Process(self._unshare.pid).children()

    @property
    def is_up(self) -> bool:
        return self._first.is_running()

    @property
    def net(self) -> str:
        """Its network's name for `ip`."""
        return str(self._first.pid)

    def command(self, *words: object, folder: Path = Path("/")) -> list[str]:
        enter = ["nsenter", "--target", self.net, "--net", "--pid", "--mount"]
        return super().command(*enter, "env", f"--chdir={folder}", *words)

    def set_up(self, link: str) -> None:
        self.run("ip", "address", "add", f"{self.address}/24", "dev", link)
        self.run("ip", "link", "set", link, "up")

    def power_off(self) -> None:
        """All its processes are killed at once, and its network is gone with the last: nothing says goodbye."""
        if self.is_up:
            self._first.kill()
        self._unshare.wait(END_SECONDS)


class Network:
    """Hosts on one switch, which is in the first of them; this machine is on it as one more, `client`."""

    def __init__(self, folder: Path, subnet: str) -> None:
        """`subnet`: the first three numbers of its addresses."""
        self._folder, self._subnet = folder, subnet
        self._first: Namespace | None = None
        self._count = 0

    def add_host(self) -> Namespace:
        self._count += 1
        name = f"host{self._count}"
        host = Namespace(f"{self._subnet}.{self._count}", self._folder / name)
        if self._first is None or not self._first.is_up:
            self._first = host
            host.run("ip", "link", "add", SWITCH, "type", "bridge")
            ours = f"vs{os.getpid()}-{self._count}"
            self._plug_in(host, "client", ours)
            Host().run("ip", "address", "add", f"{self._subnet}.254/24", "dev", ours)
            Host().run("ip", "link", "set", ours, "up")
        else:
            self._plug_in(self._first, name, SWITCH, "netns", host.net)
        host.set_up(SWITCH)
        return host

    def _plug_in(self, first: Namespace, port: str, *peer: str) -> None:
        """A cable from a port of the switch to `peer`: a link's name, and whose it is."""
        Host().run("ip", "link", "add", port, "netns", first.net, "type", "veth", "peer", "name", *peer)
        first.run("ip", "link", "set", port, "master", SWITCH, "up")


def network(folder: Path) -> Network | None:
    """A network of addresses that are free here, or None where this user may make none."""
    probe = [*NAMESPACES, "ip", "link", "add", SWITCH, "type", "bridge"]
    if os.geteuid() != 0 or subprocess.run(probe, capture_output=True, check=False).returncode:
        return None
    taken = subprocess.run(["ip", "-4", "address"], check=True, capture_output=True, text=True).stdout
    # RFC 2544 keeps 198.18.0.0/15 for tests: no real network has these.
    subnets = (f"198.18.{(os.getpid() + number) % 256}" for number in range(256))
    return Network(folder, next(subnet for subnet in subnets if f" {subnet}." not in taken))
