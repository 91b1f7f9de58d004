import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from visionserve.cortex.ray_serve.application import DEPLOYMENT, application
from visionserve.cortex.ray_serve.cluster import Cluster
from visionserve.cortex.ray_serve.mapping import Resources, deployment_options
from visionserve.cortex.ray_serve.probe import probe, reason_in
from visionserve.cortex.ray_serve.settings import ReplicaSettings
from visionserve.cortex.ray_serve.version import runtime_env
from visionserve.errors import DeploymentError

START_TIMEOUT = 300.0
POLL_SECONDS = 0.2
# Serve's own words.
WAITING = "to be scheduled"


class Rollout:
    """Puts a version of an API in the place of what Serve runs of it now, if anything."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ReplicaSettings,
        uris: list[str],
        reserved: Resources,
        say: Callable[[str], None],
    ) -> None:
        """`uris`: of the packages, which the cluster must have; `reserved`: for each replica.

        `say`: is told, once, that the cluster has no room for what is wanted.
        """
        self._say = say
        self._cluster = cluster
        self._settings = settings
        self._reserved = reserved
        self._environment = runtime_env(uris)
        self._name = settings.spec.name
        self._handed_over = False

    def run(self) -> list[str]:
        """Returns when all replicas are of this version, with notes on the way it was done.

        Raises DeploymentError with the reason when they do not start.
        """
        state = self._state()
        serving = any(replica["state"] == "RUNNING" for replica in state.get("replicas", []))
        options = deployment_options(self._settings.spec, state.get("target_num_replicas"))
        if not serving:
            # There is nothing to protect, and whoever deploys wants to know at once.
            self._hand_over(self._reserved, {**options, "max_constructor_retry_count": 1})
            self._wait(set())
            return []
        has_room = any(node.has_room_for(self._reserved.as_ray()) for node in self._cluster.nodes())
        devices = self._reserved.gpus or self._reserved.neuron_cores
        if has_room or not devices:
            probe(self._settings, self._environment, self._reserved, START_TIMEOUT)
        if has_room or not options["max_surge_percent"]:
            self._replace(self._reserved, options)
            return []
        if devices:
            self._replace(self._reserved, {**options, "max_surge_percent": 0})
            return ["No node has a free device for a second replica: requests waited while one replaced another."]
        # First without a reservation, beside the replicas that hold all there is; then in the room that those leave.
        self._replace(replace(self._reserved, cpus=0, memory=0), options)
        self._replace(self._reserved, options)
        return []

    def restore(self, settings: ReplicaSettings, uris: list[str], reserved: Resources) -> None:
        """Hands the version of before to Serve again, unless it has not been touched.

        Serve keeps the old replicas when the new ones do not start, but it would start no other of the old.
        """
        if self._handed_over:
            old = Rollout(self._cluster, settings, uris, reserved, self._say)
            old._hand_over(reserved, deployment_options(settings.spec))

    def _replace(self, reserved: Resources, options: dict[str, Any]) -> None:
        before = _ids(self._state())
        self._hand_over(reserved, options)
        self._wait(before)

    def _hand_over(self, reserved: Resources, options: dict[str, Any]) -> None:
        from ray import serve

        actor_options = {**reserved.actor_options(), "runtime_env": self._environment}
        built = application(self._settings, actor_options, options)
        target = serve.RunTarget(built, self._name, self._settings.spec.networking.endpoint)
        self._handed_over = True
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    def _wait(self, before: set[str]) -> None:
        """Returns when all replicas run, and none of those `before` (their ids) is left."""
        deadline = time.monotonic() + START_TIMEOUT
        message, told = "", False
        while time.monotonic() < deadline:
            found = self._cluster.application(self._name)
            state = found.get("deployments", {}).get(DEPLOYMENT, {})
            message = state.get("message") or found.get("message") or message
            # Serve may take a moment to turn to what it was given: until then it shows the replicas of before.
            if found.get("status") == "RUNNING" and state.get("status") == "HEALTHY" and not before & _ids(state):
                return
            if "DEPLOY_FAILED" in (found.get("status"), state.get("status")):
                raise DeploymentError(reason_in(message))
            if WAITING in message and not told:
                told = True
                wanted = self._reserved.as_ray()
                self._say(f"waiting: no node has started a replica of {wanted} yet, for want of room or of time")
            time.sleep(POLL_SECONDS)
        said = f" ({reason_in(message)})" if message else ""
        raise DeploymentError(f"its replicas were not ready after {START_TIMEOUT:g} s{said}")

    def _state(self) -> dict[str, Any]:
        """ray.serve.schema.DeploymentDetails as data; empty where Serve has none."""
        return self._cluster.application(self._name).get("deployments", {}).get(DEPLOYMENT, {})


def remove_application(name: str) -> None:
    """Returns when its replicas have answered what they had, and ended."""
    from ray import serve

    serve.delete(name)


def _ids(state: dict[str, Any]) -> set[str]:
    return {replica["replica_id"] for replica in state.get("replicas", [])}
