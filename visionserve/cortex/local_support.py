from visionserve.cortex.spec.api import ApiSpec

_CLUSTER = "one replica runs on this machine"
_WITHOUT_COUNTERPART = {
    "predictor.image": "the predictor runs in this Python environment, not in a Docker image",
    "predictor.tensorflow_serving_image": "visionserve's own model server runs in place of the image",
    "predictor.models.cache_size": "all models stay in memory",
    "predictor.models.disk_cache_size": "all models stay on disk",
    "networking.api_gateway": "there is no API Gateway on this machine",
    "monitoring": "predictions are not tracked; GET /metrics has the counters of requests",
    "autoscaling.min_replicas": _CLUSTER,
    "autoscaling.max_replicas": _CLUSTER,
    "autoscaling.init_replicas": _CLUSTER,
    "autoscaling.target_replica_concurrency": _CLUSTER,
    "autoscaling.window": _CLUSTER,
    "autoscaling.downscale_stabilization_period": _CLUSTER,
    "autoscaling.upscale_stabilization_period": _CLUSTER,
    "autoscaling.max_downscale_factor": _CLUSTER,
    "autoscaling.max_upscale_factor": _CLUSTER,
    "autoscaling.downscale_tolerance": _CLUSTER,
    "autoscaling.upscale_tolerance": _CLUSTER,
    "update_strategy.max_surge": "an update starts the new replica, then stops the old one",
    "update_strategy.max_unavailable": "an update starts the new replica, then stops the old one",
}


def local_notes(spec: ApiSpec) -> list[str]:
    """One sentence for each field the user wrote that changes nothing in the local runtime.

    compute.cpu and compute.mem get none: in Cortex, too, they reserve room on a cluster's machine and limit nothing.
    """
    notes = [
        f"{field} has no effect here: {reason}."
        for field, reason in _WITHOUT_COUNTERPART.items()
        if field in spec.explicit
    ]
    if spec.predictor.type == "python":
        notes += [
            f"{field} has no effect here: a python predictor gets its model through predictor.config."
            for field in ("predictor.model_path", "predictor.models")
            if field in spec.explicit
        ]
    return notes
