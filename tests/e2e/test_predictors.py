import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from tests.conftest import Machine, free_port, post, wait_for
from tests.photos import encoded, photographs
from tests.projects import write_project

pytestmark = pytest.mark.slow

GIF = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def test_predict_gets_the_arguments_that_it_names_and_the_project_around_it(machine: Machine, tmp_path):
    source = """
import os
from helper import GREETING

class PythonPredictor:
    def __init__(self, config):
        self.words = open("words.txt").read()

    def predict(self, query_params):
        return GREETING + self.words + os.environ["WHO"] + query_params["mark"]
"""
    spec = write_project(tmp_path / "project", source, predictor={"env": {"WHO": "you"}, "python_path": "lib"})
    (tmp_path / "project" / "lib").mkdir()
    (tmp_path / "project" / "lib" / "helper.py").write_text("GREETING = 'hello '")
    (tmp_path / "project" / "words.txt").write_text("to ")
    api = machine.deploy(spec, "--port", free_port())
    answer = post(api.endpoint, params={"mark": "!"})
    assert (answer.text, answer.headers["content-type"]) == ("hello to you!", "text/plain; charset=utf-8")


def test_results_are_sent_as_cortex_sends_them_and_post_predict_runs_afterwards(machine: Machine, tmp_path):
    source = f"""
from starlette.responses import Response

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        kinds = {{"bytes": b"12", "text": "12", "json": [1, {{"a": None}}], "response": Response("no", 418)}}
        if payload["kind"] == "error":
            raise ValueError("the reason is in the log")
        return kinds[payload["kind"]]

    def post_predict(self, response, payload):
        with open({str(tmp_path / "seen")!r}, "a") as file:
            file.write(payload["kind"] + " ")
"""
    api = machine.deploy(write_project(tmp_path / "project", source), "--port", free_port())
    endpoint = api.endpoint

    def answer(kind):
        got = post(endpoint, json={"kind": kind})
        return got.status_code, got.headers.get("content-type", "").split(";")[0], got.text

    assert answer("bytes") == (200, "application/octet-stream", "12")
    assert answer("text") == (200, "text/plain", "12")
    assert answer("json") == (200, "application/json", '[1,{"a":null}]')
    assert answer("response")[0::2] == (418, "no")
    assert answer("error") == (500, "text/plain", "internal server error")
    (tmp_path / "seen").touch()
    wait_for(lambda: (tmp_path / "seen").read_text().split() == ["bytes", "text", "json", "response"])
    wait_for(lambda: "the reason is in the log" in api.log())


def test_requests_over_max_replica_concurrency_get_503(machine: Machine, tmp_path):
    gate = tmp_path / "gate"
    source = "import os, time\nclass PythonPredictor:\n    def __init__(self, config): pass\n"
    source += f"    def predict(self, payload):\n        while not os.path.exists({str(gate)!r}):\n"
    source += "            time.sleep(0.02)\n        return 1\n"
    spec = write_project(
        tmp_path / "project",
        source,
        predictor={"processes_per_replica": 2, "threads_per_process": 4},
        autoscaling={"max_replica_concurrency": 3, "target_replica_concurrency": 3},
    )
    api = machine.deploy(spec, "--port", free_port())
    endpoint = api.endpoint
    codes: list[int] = []
    clients = [threading.Thread(target=lambda: codes.append(post(endpoint, json={}).status_code)) for _ in range(3)]
    for client in clients:
        client.start()
    wait_for(lambda: api.row()["in_flight"] == 3)
    refused = post(endpoint, json={})
    gate.touch()
    for client in clients:
        client.join()
    assert codes == [200, 200, 200]
    assert refused.status_code == 503
    assert "max_replica_concurrency=3" in refused.json()["error"]
    assert "retry-after" in refused.headers
    assert post(endpoint, json={}).status_code == 200


def test_server_side_batching_and_several_models_of_one_api(machine: Machine, model, tmp_path):
    source = """
import numpy as np

class TensorFlowPredictor:
    def __init__(self, tensorflow_client, config):
        self.client = tensorflow_client

    def predict(self, payload):
        image = np.full((1, 224, 224, 3), payload["grey"], np.uint8)
        output = self.client.predict({"input": image}, payload["model"])["output"]
        return int(np.argmax(output))
"""
    predictor = {
        "type": "tensorflow",
        "models": {"paths": [{"name": name, "model_path": str(model)} for name in ("one", "two")]},
        "threads_per_process": 8,
        "server_side_batching": {"max_batch_size": 4, "batch_interval": "50ms"},
    }
    spec = write_project(tmp_path / "project", source, predictor=predictor)
    endpoint = machine.deploy(spec, "--port", free_port(), "--engine", "openvino").endpoint
    answers: dict[tuple[str, int], int] = {}

    def ask(name: str, grey: int) -> None:
        answers[name, grey] = post(endpoint, json={"model": name, "grey": grey}).json()

    clients = [threading.Thread(target=ask, args=(name, grey)) for name in ("one", "two") for grey in (0, 99, 200, 255)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(answers) == 8
    for grey in (0, 99, 200, 255):
        assert answers["one", grey] == answers["two", grey]
    assert post(endpoint, json={"model": "three", "grey": 0}).status_code == 500


def test_a_request_whose_client_gave_up_while_it_waited_is_not_predicted(machine: Machine, tmp_path):
    source = f"""
import pathlib, time

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        with open({str(tmp_path / "calls")!r}, "a") as file:
            file.write(payload["name"] + " ")
        while payload["name"] == "first" and not pathlib.Path({str(tmp_path / "go")!r}).exists():
            time.sleep(0.01)
        return payload["name"]
"""
    spec = write_project(tmp_path / "project", source, predictor={"threads_per_process": 1})
    api = machine.deploy(spec, "--port", free_port())
    endpoint, answers = api.endpoint, []
    threads = [
        threading.Thread(target=lambda name=name: answers.append(post(endpoint, json={"name": name}).text))
        for name in ("first", "last")
    ]
    threads[0].start()
    wait_for((tmp_path / "calls").exists)
    with socket.create_connection(urlsplit(endpoint).netloc.split(":")) as client:
        body = b'{"name": "gone"}'
        client.sendall(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n" + body
        )
        wait_for(lambda: api.row()["in_flight"] == 2)
    wait_for(lambda: api.row()["in_flight"] == 1)
    threads[1].start()
    wait_for(lambda: api.row()["in_flight"] == 2)
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == ["first", "last"]
    assert (tmp_path / "calls").read_text().split() == ["first", "last"]


def test_what_steers_threads_and_coroutines_is_an_error_as_any_other(machine: Machine, tmp_path):
    source = """
import asyncio, concurrent.futures, sys

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        match payload:
            case "stop":
                return next(iter([]))
            case "exit":
                sys.exit("no more")
            case "interrupt":
                raise KeyboardInterrupt
            case "cancel":
                raise asyncio.CancelledError
            case "cancel a future":
                raise concurrent.futures.CancelledError
        return "good"
"""
    limits = {"max_replica_concurrency": 2, "target_replica_concurrency": 2}
    api = machine.deploy(write_project(tmp_path / "project", source, autoscaling=limits), "--port", free_port())
    endpoint = api.endpoint
    for kind in ("stop", "exit", "interrupt", "cancel", "cancel a future"):
        answer = post(endpoint, json=kind)
        assert (kind, answer.status_code, answer.text) == (kind, 500, "internal server error")
    assert post(endpoint, json="good").text == "good"
    assert api.row()["in_flight"] == 0
    wait_for(lambda: api.log().count(" status=500 ") == 5)
    for name in ("StopIteration", "SystemExit", "KeyboardInterrupt", "CancelledError"):
        wait_for(lambda name=name: f"RuntimeError: predict raised {name}" in api.log())


def test_access_lines_and_errors_are_whole_whatever_a_predictor_prints_and_configures(machine: Machine, tmp_path):
    source = """
import logging.config, sys

class Tee:
    def write(self, text):
        return sys.__stdout__.write(text)

    def flush(self):
        sys.__stdout__.flush()

class PythonPredictor:
    def __init__(self, config):
        logging.config.dictConfig({"version": 1})
        sys.stdout = Tee()

    def predict(self, payload):
        if payload == "fail":
            raise ValueError("the reason is in the log")
        print("x" * 300_000 if payload == "long" else "..", end="", flush=True)
        return "done"
"""
    spec = write_project(tmp_path / "project", source, predictor={"threads_per_process": 4})
    api = machine.deploy(spec, "--port", free_port())
    endpoint = api.endpoint
    kinds = ["dots", "long"] * 10
    with ThreadPoolExecutor(4) as threads:
        assert {answer.text for answer in threads.map(lambda kind: post(endpoint, json=kind), kinds)} == {"done"}
    assert post(endpoint, json="fail").status_code == 500
    line = re.compile(
        r"^\S+ worker 0: access request_id=\w+ client=\S+ method=POST path=/ status=(200|500) .*\d$", re.M
    )
    wait_for(lambda: len(line.findall(api.log())) == len(kinds) + 1)
    wait_for(lambda: "ValueError: the reason is in the log" in api.log())
    assert "ERROR" in api.log()


def test_post_predict_of_answered_requests_ends_before_the_api_does(machine: Machine, tmp_path):
    source = f"""
import time

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        return "done"

    def post_predict(self, payload):
        time.sleep(1)
        with open({str(tmp_path / "seen")!r}, "a") as file:
            file.write(f"{{payload}} ")
"""
    spec = write_project(tmp_path / "project", source, predictor={"threads_per_process": 4})
    api = machine.deploy(spec, "--port", free_port())
    endpoint = api.endpoint
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: post(endpoint, json=number), range(12)))
    machine.cortex("delete", api.name)
    assert sorted(map(int, (tmp_path / "seen").read_text().split())) == list(range(12))


def peers(process: psutil.Process) -> list[tuple[str, int]]:
    """Those that a process has TCP connections with."""
    return [connection.raddr for connection in process.net_connections("tcp") if connection.raddr]


def test_a_client_that_goes_while_predict_works_is_counted_and_logged_as_gone(machine: Machine, tmp_path):
    source = """
import os, time

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        open(payload["began"], "w").close()
        while not os.path.exists(payload["gate"]):
            time.sleep(0.02)
        return "done"
"""
    api = machine.deploy(write_project(tmp_path / "project", source), "--port", free_port())
    address = urlsplit(api.endpoint)
    worker = psutil.Process(api.row()["processes"]["worker 0"])
    began, gate = tmp_path / "began", tmp_path / "gate"
    body = json.dumps({"began": str(began), "gate": str(gate)}).encode()
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n" % len(body) + body)
        wait_for(began.exists)
        client = connection.getsockname()
        assert client in peers(worker)
    # The server has seen it once it has closed its end.
    wait_for(lambda: client not in peers(worker))
    gate.touch()
    wait_for(lambda: f" status=499 bytes_in={len(body)} bytes_out=0 " in api.log())
    metrics = requests.get(f"{api.endpoint}/metrics", timeout=30).text
    assert re.search(r'^visionserve_requests_total{.*code="499".*} 1\.0$', metrics, re.M)
    assert 'code="200"' not in metrics


def test_a_picture_under_the_type_that_curl_gives_to_all_bodies_reaches_predict_as_bytes(machine: Machine, tmp_path):
    source = """
class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        return [type(payload).__name__, len(payload)]
"""
    endpoint = machine.deploy(write_project(tmp_path / "project", source), "--port", free_port()).endpoint
    form = {"content-type": "application/x-www-form-urlencoded"}
    for kind in (".jpg", ".png", ".webp", ".bmp", ".gif"):
        picture = GIF if kind == ".gif" else encoded(photographs()["chelsea"], kind)
        assert post(endpoint, data=picture, headers=form).json() == ["bytes", len(picture)]
    assert post(endpoint, data=b'{"a": 1, "b": 2}', headers=form).json() == ["dict", 2]
    assert post(endpoint, data=b"a=1&b=2&c=3", headers=form).json() == ["FormData", 3]
