from typing import Any

from visionserve.cortex.ray_serve.mapping import Resources
from visionserve.cortex.ray_serve.settings import ReplicaSettings
from visionserve.errors import DeploymentError

# Ray's own words.
PROCESS_GONE = ("ActorDiedError", "The worker died unexpectedly", "The actor died unexpectedly")


def probe(settings: ReplicaSettings, runtime_env: dict[str, Any], reserved: Resources, seconds: float) -> None:
    """Starts a replica of the new version somewhere on the cluster, beside all that runs, and ends it.

    It reserves no CPU, so that a full cluster has a place for it, but the devices that its model needs.
    Raises DeploymentError with the reason why it does not start.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    # The process ends with it: what the predictor has changed in it is seen by nobody else.
    @ray.remote(num_cpus=0, max_calls=1, max_retries=0)
    def start(argument: dict[str, Any]) -> None:
        from visionserve.cortex.ray_serve.replica import Replica

        Replica(argument)

    options = {**reserved.actor_options(), "num_cpus": 0, "memory": None, "runtime_env": runtime_env}
    started = start.options(**options).remote(settings.as_argument())
    try:
        ray.get(started, timeout=seconds)
    except GetTimeoutError:
        ray.cancel(started, force=True)
        raise DeploymentError(f"a replica of it was not ready after {seconds:g} s") from None
    except RayError as error:
        raise DeploymentError(reason_in(str(error))) from error


def reason_in(message: str) -> str:
    """The sentence in what Ray says of a failed start: that of our own error, or else the last line of its trace; of a
    process that is gone Ray only names files to look into."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("visionserve.errors.")]
    if not ours and any(words in message for words in PROCESS_GONE):
        return "the process of a replica died: it crashed, had too little memory, or was ended by the predictor"
    return (ours[-1].partition(": ")[2] if ours else (lines or ["it gives no reason"])[-1]).rstrip(".")
