from pathlib import Path

from pydantic import BaseModel

from visionserve.cortex.control import SOCKET
from visionserve.cortex.log_format import LogFormat
from visionserve.cortex.remote_models import RemoteModels
from visionserve.cortex.spec.api import ApiSpec
from visionserve.inference.model_settings import ModelSettings

# In the environment of a deployment to which others add replicas where many requests are in flight, such as Knative.
AUTOSCALED = "VISIONSERVE_AUTOSCALED"


class RunSettings(BaseModel):
    """All that a supervisor and its processes need to know of one run of an API; a JSON file in the run's folder.

    `wished_port`: the one asked for, where `port` is the one that the run before had to take in its place.
    `api_keys`: the hashes of api_key.digests, empty where requests need no key.
    `umask`: that of the command which deployed it, for the files that the predictor writes.
    """

    id: str
    spec: ApiSpec
    digest: str
    engine: str | None
    models: list[ModelSettings]
    remote: RemoteModels | None = None
    host: str
    port: int
    wished_port: int | None = None
    start_timeout: float
    api_keys: list[str] = []
    umask: int = 0o022
    log_format: LogFormat = "text"
    access_log: bool = True
    folder: Path
    state: Path

    @property
    def file(self) -> Path:
        return self.folder / "run.json"

    @property
    def model_server_file(self) -> Path:
        return self.folder / "model_server.json"

    @property
    def model_address(self) -> str:
        """Where the workers ask for predictions: the replica's own model server, or the TensorFlow Serving named."""
        return self.remote.address if self.remote else f"unix:{self.folder / 'model.sock'}"

    @property
    def signatures(self) -> dict[str, str]:
        """The signature key of each model that the predictor may ask; empty where it gets no client."""
        return self.remote.signatures if self.remote else {model.name: model.signature_key for model in self.models}

    @property
    def control(self) -> Path:
        return self.folder / SOCKET

    @property
    def in_flight(self) -> Path:
        return self.folder / "in_flight"

    @property
    def casualties(self) -> Path:
        return self.folder / "casualties"

    def pulse(self, process: str) -> Path:
        """Of "model server" and "worker 0", "worker 1", ..."""
        return self.folder / f"{process.replace(' ', '-')}.pulse"

    @property
    def metrics(self) -> Path:
        return self.state / "metrics"

    @property
    def log(self) -> Path:
        return self.state / "api.log"
