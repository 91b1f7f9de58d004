import http.server
import json
import threading

import numpy as np
import pytest

from visionserve.vision.labels import IMAGENET_CLASSES, load_classes, top_k


@pytest.fixture
def served(tmp_path):
    """A function: text -> its URL on a real server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            body = (tmp_path / self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def publish(text):
        (tmp_path / "served.json").write_text(text)
        return f"http://127.0.0.1:{server.server_port}/served.json"

    yield publish
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_names_of_imagenet_come_with_the_package():
    names = load_classes(IMAGENET_CLASSES)
    assert len(names) == 1000
    assert (names[0], names[281], names[285], names[999]) == ("tench", "tabby", "Egyptian_cat", "toilet_tissue")


def test_kerass_class_index_is_read_in_the_order_of_its_numbers(tmp_path):
    index = {str(i): [f"n{i:08d}", f"name{i}"] for i in range(12)}
    path = tmp_path / "imagenet_class_index.json"
    path.write_text(json.dumps(dict(sorted(index.items()))))
    assert load_classes(path) == [f"name{i}" for i in range(12)]


def test_classes_come_from_a_url(served):
    assert load_classes(served('["cat", "dog"]')) == ["cat", "dog"]
    assert load_classes(served('{"0": ["n1", "cat"], "1": ["n2", "dog"]}')) == ["cat", "dog"]


@pytest.mark.parametrize("text", ["", "[", "[]", "3", "[1, 2]", '{"0": ["n1", "cat"], "2": ["n2", "dog"]}'])
def test_a_file_of_another_form_is_refused_by_name(tmp_path, text):
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^classes: .*classes.json (cannot be read as JSON|must be a JSON list)"):
        load_classes(path)


def test_a_source_that_is_not_there_is_refused_by_name(tmp_path, served):
    with pytest.raises(ValueError, match=r"^classes: .*missing.json cannot be read"):
        load_classes(tmp_path / "missing.json")
    url = served("[]").replace("/served.json", "/missing.json")
    with pytest.raises(ValueError, match=r"^classes: http.*missing.json cannot be read"):
        load_classes(url)


def test_the_likeliest_labels_come_first():
    probabilities = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]], np.float32)
    rows = top_k(probabilities, ["ant", "bee", "cat"], 2)
    assert [[label for label, _ in row] for row in rows] == [["bee", "cat"], ["ant", "cat"]]
    assert rows[0][0][1] == pytest.approx(0.6)
    assert json.dumps(rows)


def test_fewer_classes_than_asked_for_are_all_given():
    assert top_k(np.array([[0.2, 0.8]]), ["ant", "bee"]) == [[("bee", 0.8), ("ant", 0.2)]]


def test_another_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"shape \[1, 3\] where \[N, 2\] was expected"):
        top_k(np.zeros((1, 3)), ["ant", "bee"])
