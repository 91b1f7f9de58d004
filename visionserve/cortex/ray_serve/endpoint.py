import time

import requests

from visionserve.cortex.ray_serve.cluster import Cluster
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import DeploymentError, UsageError

EVERYWHERE = ("0.0.0.0", "::")
# For the controller and, through it, the proxies: one that prefers its own node's replicas leaves those on others idle.
TO_ALL_NODES = {"RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0"}


def start_serve(cluster: Cluster, spec: ApiSpec, host: str | None, port: int | None) -> list[str]:
    """Starts Serve where it does not run; its proxies then listen at `host`, 127.0.0.1 for None, and `port`.

    Gives a note where Serve runs and listens elsewhere than the spec says. Raises UsageError where it listens elsewhere
    than the command line says.
    """
    from ray import serve

    running = cluster.serve_details().get("http_options")
    if running is None:
        serve.start(
            proxy_location="EveryNode",
            http_options={"host": host or "127.0.0.1", "port": port or spec.networking.local_port},
            controller_options={"runtime_env": {"env_vars": TO_ALL_NODES}},
        )
        return []
    for option, asked, is_there in (("--host", host, running["host"]), ("--port", port, running["port"])):
        if asked is not None and asked != is_there:
            raise UsageError(
                f"{option} {asked}: Ray Serve runs on this cluster already, and its proxies listen at "
                f"{running['host']} port {running['port']}; leave it out, or run serve shutdown first."
            )
    if port is None and "networking.local_port" in spec.explicit and running["port"] != spec.networking.local_port:
        return [f"Ray Serve runs already: the API is at its port {running['port']}, not networking.local_port."]
    return []


def check_prefix(cluster: Cluster, spec: ApiSpec) -> None:
    """Raises DeploymentError where another application has the endpoint."""
    prefix = spec.networking.endpoint
    for name, found in cluster.serve_details().get("applications", {}).items():
        if name != spec.name and found.get("route_prefix") == prefix:
            raise DeploymentError(
                f"The Serve application {name} of this cluster is at {prefix} already: set networking.endpoint to "
                f"another path, or delete {name}."
            )


def endpoint_of(cluster: Cluster, prefix: str) -> str:
    """The URL of an API at the proxy of the head, which always has one."""
    options = cluster.serve_details()["http_options"]
    host = options["host"]
    if host in EVERYWHERE:
        host = next((node.address for node in cluster.nodes() if node.is_head), "127.0.0.1")
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{options['port']}{prefix.rstrip('/')}"


def wait_until_it_answers(endpoint: str, seconds: float) -> bool:
    """False where the endpoint cannot be reached from this machine, or the API is not ready in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{endpoint}/healthz", timeout=5).ok:
                return True
        except requests.RequestException:
            pass
        time.sleep(0.1)
    return False
