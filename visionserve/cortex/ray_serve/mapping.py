"""A spec's fields as options of a deployment of Ray Serve. docs/ray.md has the whole table."""

import math
from dataclasses import dataclass
from typing import Any

from visionserve.cortex.host import GRACE
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.spec.rules import NEURON_CORES

POLICY = "visionserve.cortex.ray_serve.autoscaling:CortexPolicy"
# Ray's name for what compute.inf counts in chips.
NEURON_RESOURCE = "neuron_cores"
# Requests that a replica takes beyond max_replica_concurrency, only to answer them with 503 itself.
REFUSED_AT_ONCE = 16
# Seconds. A replica that does not answer three checks in a row is replaced.
HEALTH_CHECK_PERIOD, HEALTH_CHECK_TIMEOUT = 1.0, 3.0
# Seconds between two reports of the requests in flight to Serve's controller.
METRICS_INTERVAL = 2.0
# Starts of a new version that may fail before Serve gives it up.
START_ATTEMPTS = 3


@dataclass(frozen=True)
class Resources:
    """What one replica reserves on a node. `memory`: bytes."""

    cpus: float
    gpus: int = 0
    neuron_cores: int = 0
    memory: int = 0

    @property
    def threads(self) -> int:
        """Of the replica's engine."""
        return max(1, math.ceil(self.cpus))

    def as_ray(self) -> dict[str, float]:
        """Resource name -> amount, without what is not asked for."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory, NEURON_RESOURCE: self.neuron_cores}
        return {name: amount for name, amount in amounts.items() if amount}

    def actor_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"num_cpus": self.cpus}
        if self.gpus:
            options["num_gpus"] = self.gpus
        if self.memory:
            options["memory"] = self.memory
        if self.neuron_cores:
            options["resources"] = {NEURON_RESOURCE: self.neuron_cores}
        return options


def resources(spec: ApiSpec, without_devices: bool = False) -> Resources:
    """`without_devices`: as with --compute cpu. Ray counts what is above one core in whole cores."""
    cpus = spec.compute.cpu or 0.0
    return Resources(
        cpus=math.ceil(cpus) if cpus > 1 else cpus,
        gpus=0 if without_devices else spec.compute.gpu,
        neuron_cores=0 if without_devices else NEURON_CORES * spec.compute.inf,
        memory=spec.compute.mem or 0,
    )


def autoscaling_config(spec: ApiSpec) -> dict[str, Any]:
    """ray.serve.config.AutoscalingConfig as data: Cortex's own formula decides, and Serve does not delay or damp it."""
    scaling = spec.autoscaling
    return {
        "min_replicas": scaling.min_replicas,
        "initial_replicas": scaling.init_replicas,
        "max_replicas": scaling.max_replicas,
        "target_ongoing_requests": scaling.target_replica_concurrency,
        "look_back_period_s": scaling.window,
        "metrics_interval_s": METRICS_INTERVAL,
        "upscale_delay_s": 0,
        "downscale_delay_s": 0,
        "policy": {
            "policy_function": POLICY,
            "policy_kwargs": {
                "target": scaling.target_replica_concurrency,
                "low": scaling.min_replicas,
                "high": scaling.max_replicas,
                "downscale_stabilization": scaling.downscale_stabilization_period,
                "upscale_stabilization": scaling.upscale_stabilization_period,
                "max_downscale_factor": scaling.max_downscale_factor,
                "max_upscale_factor": scaling.max_upscale_factor,
                "downscale_tolerance": scaling.downscale_tolerance,
                "upscale_tolerance": scaling.upscale_tolerance,
            },
        },
    }


def deployment_options(spec: ApiSpec, replicas: int | None = None) -> dict[str, Any]:
    """Options of serve.deployment, but what a replica reserves.

    `replicas`: of which update_strategy's whole numbers are a part, None for init_replicas.
    """
    limit = spec.autoscaling.max_replica_concurrency
    replicas = replicas or spec.autoscaling.init_replicas
    return {
        "autoscaling_config": autoscaling_config(spec),
        "max_ongoing_requests": limit + REFUSED_AT_ONCE,
        # What waits while no replica takes it, such as between two that replace each other.
        "max_queued_requests": limit * spec.autoscaling.max_replicas,
        "max_surge_percent": math.ceil(100 * _part(spec.update_strategy.max_surge, replicas)),
        "rolling_update_percentage": max(0.01, _part(spec.update_strategy.max_unavailable, replicas)),
        "max_constructor_retry_count": START_ATTEMPTS,
        "health_check_period_s": HEALTH_CHECK_PERIOD,
        "health_check_timeout_s": HEALTH_CHECK_TIMEOUT,
        "graceful_shutdown_timeout_s": float(GRACE),
        "graceful_shutdown_wait_loop_s": 1.0,
        "logging_config": {"enable_access_log": False},
    }


def _part(written: int | str, replicas: int) -> float:
    part = int(written.rstrip("%")) / 100 if isinstance(written, str) else written / replicas
    return min(1.0, part)
