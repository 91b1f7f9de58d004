"""Each field of a spec on Ray: its counterpart, or why it has none. docs/ray.md has the same as a table."""

from visionserve.cortex.spec.api import ApiSpec

# What a field becomes: of a deployment of Ray Serve, of Ray's resources, or as on one machine.
MAPPED = {
    "name": "the Serve application",
    "kind": "as locally",
    "predictor.type": "as locally",
    "predictor.path": "as locally, brought to the nodes with the project",
    "predictor.model_path": "a folder is brought to the nodes, s3:// is fetched by each",
    "predictor.signature_key": "as locally",
    "predictor.models.dir": "as predictor.model_path",
    "predictor.models.paths": "as predictor.model_path",
    "predictor.models.paths.name": "as locally",
    "predictor.models.paths.model_path": "as predictor.model_path",
    "predictor.models.paths.signature_key": "as locally",
    "predictor.models.signature_key": "as locally",
    "predictor.server_side_batching.max_batch_size": "as locally",
    "predictor.server_side_batching.batch_interval": "as locally",
    "predictor.processes_per_replica": "predictors in the replica's one process",
    "predictor.threads_per_process": "threads of each of them",
    "predictor.config": "as locally",
    "predictor.python_path": "as locally",
    "predictor.env": "as locally",
    "networking.endpoint": "the application's route_prefix",
    "networking.local_port": "the port of Serve's proxies, where this deploy starts Serve",
    "compute.cpu": "num_cpus, and the threads of the engine",
    "compute.gpu": "num_gpus",
    "compute.inf": "resources neuron_cores, 4 a chip",
    "compute.mem": "memory",
    "autoscaling.min_replicas": "min_replicas",
    "autoscaling.max_replicas": "max_replicas",
    "autoscaling.init_replicas": "initial_replicas",
    "autoscaling.target_replica_concurrency": "target_ongoing_requests",
    "autoscaling.max_replica_concurrency": "the replica refuses more with 503; max_ongoing_requests is 16 above it",
    "autoscaling.window": "look_back_period_s",
    "autoscaling.downscale_stabilization_period": "the policy's",
    "autoscaling.upscale_stabilization_period": "the policy's",
    "autoscaling.max_downscale_factor": "the policy's",
    "autoscaling.max_upscale_factor": "the policy's",
    "autoscaling.downscale_tolerance": "the policy's",
    "autoscaling.upscale_tolerance": "the policy's",
    "update_strategy.max_surge": "max_surge_percent",
    "update_strategy.max_unavailable": "rolling_update_percentage",
}
WITHOUT_COUNTERPART = {
    "predictor.image": "the predictor runs in the Python environment of Ray's nodes",
    "predictor.tensorflow_serving_image": "the model runs in the replica's own process",
    "predictor.models.cache_size": "all models stay in memory",
    "predictor.models.disk_cache_size": "all models stay on disk",
    "networking.api_gateway": "Serve's proxies are the only way in",
    "monitoring.model_type": "predictions are not tracked; Ray's metrics have the counters of requests",
    "monitoring.key": "predictions are not tracked; Ray's metrics have the counters of requests",
}


def ray_notes(spec: ApiSpec) -> list[str]:
    """One sentence for each field the user wrote that changes nothing on Ray, or changes less than it says."""
    notes = [
        f"{field} has no effect on Ray: {reason}."
        for field, reason in WITHOUT_COUNTERPART.items()
        if field in spec.explicit
    ]
    predictor = spec.predictor
    if predictor.type == "python":
        notes += [
            f"{field} has no effect on Ray: a python predictor gets its model through predictor.config."
            for field in ("predictor.model_path", "predictor.models")
            if field in spec.explicit
        ]
        if predictor.processes_per_replica > 1:
            notes.append(
                f"The {predictor.processes_per_replica} predictors of processes_per_replica share one process and its "
                "interpreter lock on Ray: more replicas use more cores."
            )
    if spec.compute.cpu is None:
        notes.append("compute.cpu is null: the engine runs on one thread, and Ray reserves nothing for the replica.")
    return notes
