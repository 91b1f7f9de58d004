from typing import Any

from visionserve.cortex.overview import Row
from visionserve.cortex.ray_serve.application import DEPLOYMENT
from visionserve.cortex.ray_serve.cluster import Cluster, connected
from visionserve.cortex.ray_serve.probe import reason_in
from visionserve.cortex.ray_serve.records import RayDeployment, RayStore
from visionserve.cortex.ray_serve.traffic import traffic
from visionserve.errors import DeploymentError, MissingError

GONE = "gone from the cluster (run cortex deploy again)"


def overview(store: RayStore, names: list[str]) -> list[Row]:
    """A row for each of the named APIs; that of one whose cluster does not answer says so."""
    rows = [_known(store, name) for name in names]
    records = [record for record in rows if isinstance(record, RayDeployment)]
    found: dict[str, Row] = {}
    for address in sorted({record.address for record in records}):
        here = [record for record in records if record.address == address]
        try:
            with connected(address) as cluster:
                found |= {record.name: _row(cluster, record) for record in here}
        except (DeploymentError, MissingError) as error:
            found |= {record.name: _bare(record, str(error)) for record in here}
    return [row if isinstance(row, Row) else found[row.name] for row in rows]


def _known(store: RayStore, name: str) -> RayDeployment | Row:
    try:
        return store.get(name)
    except DeploymentError as error:
        return Row(name=name, env="ray", status=str(error), replicas="?")


def _row(cluster: Cluster, record: RayDeployment) -> Row:
    application = cluster.application(record.name)
    if not application:
        return _bare(record, GONE)
    state = application.get("deployments", {}).get(DEPLOYMENT, {})
    replicas = [replica for replica in state.get("replicas", []) if replica["state"] == "RUNNING"]
    wanted = state.get("target_num_replicas", 0)
    counted = traffic(cluster, record.name)
    return Row(
        name=record.name,
        env="ray",
        status=_status(application, state, len(replicas), wanted),
        replicas=f"{len(replicas)}/{wanted}",
        updated=record.updated,
        requests=counted.by_class,
        latency_ms=counted.mean_latency * 1000 if counted.mean_latency is not None else None,
        engine=record.engine,
        endpoint=record.endpoint,
        spec=str(record.spec_file),
        processes={f"{replica['replica_id']} at {replica['node_ip']}": replica["pid"] for replica in replicas},
    )


def _bare(record: RayDeployment, status: str) -> Row:
    return Row(
        name=record.name,
        env="ray",
        status=status,
        replicas="?",
        updated=record.updated,
        engine=record.engine,
        endpoint=record.endpoint,
        spec=str(record.spec_file),
    )


def _status(application: dict[str, Any], state: dict[str, Any], running: int, wanted: int) -> str:
    """In one or two words; with Serve's reason where something is wrong."""
    status = state.get("status", application["status"])
    if application["status"] == "DELETING":
        return "stopping"
    if status in ("DEPLOY_FAILED", "UNHEALTHY") or application["status"] in ("DEPLOY_FAILED", "UNHEALTHY"):
        word = "unhealthy" if "UNHEALTHY" in (status, application["status"]) else "update failed"
        message = state.get("message") or application.get("message") or ""
        return f"{word}: {reason_in(message)}" if message else word
    words = {"UPDATING": "updating", "UPSCALING": "scaling up", "DOWNSCALING": "scaling down"}
    if status in words:
        return words[status]
    return "live" if running >= wanted else "restarting"
