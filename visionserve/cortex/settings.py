from pathlib import Path

from pydantic import BaseModel

from visionserve.cortex.remote_models import RemoteModels
from visionserve.cortex.spec.api import ApiSpec
from visionserve.inference.served_model import ModelSettings


class RunSettings(BaseModel):
    """All that a supervisor and its processes need to know of one run of an API; a JSON file in the run's folder."""

    id: str
    spec: ApiSpec
    digest: str
    engine: str | None
    models: list[ModelSettings]
    remote: RemoteModels | None = None
    host: str
    port: int
    start_timeout: float
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
        return self.folder / "control.sock"

    @property
    def in_flight(self) -> Path:
        return self.folder / "in_flight"

    @property
    def casualties(self) -> Path:
        return self.folder / "casualties"

    @property
    def metrics(self) -> Path:
        return self.state / "metrics"

    @property
    def log(self) -> Path:
        return self.state / "api.log"
