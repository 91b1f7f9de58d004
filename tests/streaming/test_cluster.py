import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, free_port, run, wait_for
from tests.deploy.compose import normalized
from tests.streaming.cluster import FlinkCluster


def test_a_cluster_that_cannot_be_reached_is_one_sentence(
    stream_environment: Path, model: Path, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [stream_environment, "-m", "visionserve.streaming", "-m", address]
    command += ["--imageFolder", REPOSITORY / "verification" / "images", "--checkpointPath", model]
    done = run([*map(str, command)], cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(rf"[^\n]*{re.escape(address)}[^\n]*\.\n", done.stderr)


@pytest.mark.slow
def test_flink_takes_the_options_of_the_compose_file_and_its_health_checks_tell(
    stream_environment: Path, tmp_path: Path
) -> None:
    """The scripts that the image has are run as processes on ports of this machine; Docker is not."""
    compose_file = shutil.copy(REPOSITORY / "deploy" / "flink" / "docker-compose.yml", tmp_path)
    services = normalized(Path(compose_file))["services"]
    options = [word for service in services.values() for word in service["command"] if "=" in word]
    given = dict(option.split("=", 1) for option in options)
    given["execution.checkpointing.dir"] = tmp_path.as_uri()
    given["taskmanager.rpc.port"] = str(free_port())
    cluster = FlinkCluster(stream_environment, tmp_path / "cluster", given)
    ports = {"8081": cluster.address.split(":")[1], "6122": given["taskmanager.rpc.port"]}

    def healthy(name: str) -> bool:
        test = services[name]["healthcheck"]["test"]
        for inside, outside in ports.items():
            test = test.replace(inside, outside)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return run(["sh", "-c", test], env={**os.environ, "PATH": path}).returncode == 0

    assert not healthy("job-manager")
    assert not healthy("task-manager")
    try:
        cluster.start(task_managers=1)
        # A check has four seconds; Docker asks again, too.
        wait_for(lambda: healthy("task-manager"))
        wait_for(lambda: healthy("job-manager"))
        cluster.task_managers[0].kill()
        wait_for(lambda: not healthy("task-manager"))
        wait_for(lambda: healthy("job-manager"))
    finally:
        cluster.stop()
