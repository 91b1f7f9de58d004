import json

import psutil
import requests

from tests.conftest import API, REPOSITORY, wait_for
from tests.cortex.ray.ray_api import RayApi
from tests.steady_load import Load

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())


def test_an_update_under_load_loses_nothing(ray_api: RayApi):
    with Load(ray_api.url, SAMPLE, clients=3, headers={"x-pause": "0.2"}) as load:
        wait_for(lambda: len(load.answers) >= 6)
        done = ray_api.deploy(labels="new_")
        assert done.returncode == 0, done.stdout + done.stderr
        told = len(load.answers)
        wait_for(lambda: len(load.answers) >= told + 12)
    assert load.failed == []
    firsts = [json.loads(answer.body)[0] for answer in sorted(load.answers, key=lambda answer: answer.sent)]
    assert set(firsts) == {"Egyptian_cat", "new_Egyptian_cat"}
    assert set(firsts[-6:]) == {"new_Egyptian_cat"}


def test_a_version_that_does_not_start_leaves_the_old_one_serving(ray_api: RayApi):
    with Load(ray_api.url, SAMPLE, clients=3, headers={"x-pause": "0.2"}) as load:
        wait_for(lambda: len(load.answers) >= 6)
        before = json.loads(load.answers[-1].body)
        done = ray_api.deploy(labels="new_", source="\nraise OSError('no disk')\n")
        told = len(load.answers)
        wait_for(lambda: len(load.answers) >= told + 6)
    assert done.returncode == 1
    assert "OSError: no disk" in done.stderr
    assert load.failed == []
    assert all(json.loads(answer.body) == before for answer in load.answers)
    assert ray_api.row()["status"] == "live"


def test_delete_leaves_nothing_of_the_api(ray_api: RayApi):
    done = ray_api.machine.cortex("delete", API)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ray_api.machine.get() == []
    assert requests.post(ray_api.url, json=SAMPLE, timeout=60).status_code == 404
    wait_for(lambda: not [name for name in map(command, psutil.process_iter()) if f"ServeReplica:{API}" in name])


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
