import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from ovmsclient import make_tensor_proto
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.conftest import wait_for

BLACK = np.zeros((1, 224, 224, 3), np.uint8)
STATES = get_model_status_pb2.ModelVersionStatus.State


def add_version(folder: Path, version: int, model: Path | None = None) -> Path:
    """A version folder with links to a real model's files; without one, what the null engine takes for a SavedModel."""
    target = folder / str(version)
    if model:
        shutil.copytree((model / "1").resolve(), target, copy_function=os.symlink)
    else:
        target.mkdir(parents=True)
        (target / "saved_model.pb").touch()
    return target


def predict_request(name: str, version: int | None = None, label: str = "", **inputs: np.ndarray):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for key, array in (inputs or {"input": BLACK}).items():
        request.inputs[key].CopyFrom(make_tensor_proto(array))
    return request


class Server:
    def __init__(self, address: str, log: Path) -> None:
        self._log = log
        self._channel = grpc.insecure_channel(address)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self.service = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def version(self, name: str, version: int | None = None, label: str = "") -> int:
        """Which version answers."""
        response = self.prediction.Predict(predict_request(name, version, label), timeout=60)
        assert response.outputs["output"].tensor_shape.dim[1].size == 1000
        return response.model_spec.version.value

    def refusal(self, *arguments: Any, **options: Any) -> tuple[str, str]:
        try:
            version = self.version(*arguments, **options)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        raise AssertionError(f"version {version} answered")

    def statuses(self, name: str, version: int | None = None) -> dict[int, tuple[str, str]]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        if version is not None:
            request.model_spec.version.value = version
        rows = self.service.GetModelStatus(request, timeout=60).model_version_status
        return {row.version: (STATES.Name(row.state), row.status.error_message) for row in rows}

    def states(self, name: str) -> dict[int, str]:
        return {version: state for version, (state, _) in self.statuses(name).items()}

    def wait_for_states(self, name: str, **states: str) -> None:
        """v1="END", v2="AVAILABLE": every version that the server knows."""
        wanted = {int(key[1:]): state for key, state in states.items()}
        wait_for(lambda: self.states(name) == wanted)

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        self._channel.close()


@contextmanager
def serving(folder: Path, *models: dict[str, Any], poll: float = 0.1) -> Iterator[Server]:
    """A real model server, which must end well; `models`: ModelSettings; `folder`: for its files."""
    address = f"unix:{folder / 'server.sock'}"
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"address": address, "models": models, "poll": poll}, default=str))
    log = folder / "server.log"
    command = [sys.executable, "-m", "visionserve.inference.model_server", str(settings)]
    with open(log, "w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        try:
            line = process.stdout.readline()
            assert line.startswith("serving "), line
            server = Server(address, log)
            yield server
            server.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (process.returncode, process.stdout.read(), server.log())
        finally:
            process.kill()
