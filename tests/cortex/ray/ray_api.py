import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import API, REPOSITORY, free_port
from tests.cortex.ray.journal import Journal
from tests.projects import repository_spec
from tests.ray_cluster import RayCluster

JOURNALED = Path(__file__).with_name("journal_predictor.py")
# One core for each replica's engine, and as many threads as the load has clients, so that none waits for a thread.
PREDICTOR = {"processes_per_replica": 1, "threads_per_process": 8}


class RayApi:
    """The project's CPU spec on a cluster, with journal_predictor.py; asked at the proxy of the head, which stays."""

    def __init__(self, cluster: RayCluster, folder: Path, model: Path, autoscaling: dict[str, Any]) -> None:
        self.machine = cluster.machine(folder / "home")
        self.journal = Journal(folder / "journal")
        self._cluster, self._model, self._autoscaling = cluster, model, autoscaling
        self._project = folder / "project"
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"http://{self._cluster.head.host.address}:{self._port}/{API}"

    def deploy(self, labels: str = "", source: str = "") -> subprocess.CompletedProcess[str]:
        """`labels`: put before each label, to tell the answers of versions apart; `source`: added to predictor.py."""
        spec = repository_spec(
            self._project,
            REPOSITORY,
            self._model,
            predictor=PREDICTOR,
            compute={"cpu": 1, "mem": "500M"},
            autoscaling=self._autoscaling,
        )
        classes = self._project / "classes.json"
        classes.write_text(json.dumps([labels + label for label in json.loads(classes.read_text())]))
        (self._project / "predictor.py").rename(self._project / "classifier.py")
        (self._project / "predictor.py").write_text(JOURNALED.read_text() + source)
        (api,) = yaml.safe_load(spec.read_text())
        api["predictor"]["config"]["journal"] = str(self.journal.path)
        spec.write_text(yaml.safe_dump([api]))
        options = ["--env", "ray", "--engine", "openvino", "--host", "0.0.0.0", "--port", self._port]
        return self.machine.cortex("deploy", spec, *options)

    def row(self) -> dict[str, Any]:
        return next(row for row in self.machine.get() if row["name"] == API)
