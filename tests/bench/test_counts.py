import base64
import json
import time

import pytest

from tests.bench.servers import Exchange, answering_with, serving

pytestmark = pytest.mark.timing


@pytest.mark.parametrize(
    ("workers", "threads", "samples", "batch"), [(1, 1, 10, 1), (1, 4, 5, 1), (2, 3, 4, 1), (2, 1, 3, 5)]
)
def test_every_client_sends_its_samples(bench, photo, workers, threads, samples, batch):
    with serving() as (url, record):
        run = bench("-w", workers, "-t", threads, "-s", samples, "-b", batch, photo, url)
    requests = workers * threads * samples
    assert run.code == 0, run.err
    assert len(record.bodies) == requests
    assert len(record.peers) == workers * threads, "one keep-alive connection a client"
    assert run.figures["requests"] == run.figures["served"] == requests
    assert run.figures["connections"] == workers * threads
    assert run.figures["inferences"] == requests * batch
    assert run.row("inferences") == str(requests * batch)
    assert run.row("failed") == "0"


def test_the_defaults_are_one_client_ten_requests_of_one_image(bench, photo):
    with serving() as (url, record):
        run = bench(photo, url)
    assert (run.code, len(record.bodies), record.most_in_flight) == (0, 10, 1)
    assert [len(json.loads(body)["imgs"]) for body in record.bodies] == [1] * 10


def test_the_body_is_the_image_in_base64_as_often_as_the_batch_is_large(bench, photo, photo_bytes):
    with serving() as (url, record):
        bench("-s", 2, "-b", 3, photo, url + "classify?scores=true")
    for body in record.bodies:
        images = json.loads(body)["imgs"]
        assert [base64.b64decode(image, validate=True) for image in images] == [photo_bytes] * 3
    assert record.paths == ["/classify?scores=true"] * 2
    assert {headers["Content-Type"] for headers in record.headers} == {"application/json"}


def test_all_clients_of_all_workers_are_in_flight_together(bench, photo):
    def wait_for_the_others(exchange: Exchange) -> None:
        exchange.record.wait_for(6)
        exchange.answer()

    with serving(wait_for_the_others) as (url, record):
        run = bench("-w", 2, "-t", 3, "-s", 1, photo, url)
    assert run.code == 0
    assert record.most_in_flight == 6


@pytest.mark.slow
def test_a_time_based_run_ignores_samples_and_counts_what_was_in_flight_at_its_end(bench, photo):
    def hold_two_over_the_end(exchange: Exchange) -> None:
        if exchange.number >= 4:
            time.sleep(max(0.0, exchange.record.arrived[0] + 4.1 - time.monotonic()))
        exchange.answer()

    with serving(hold_two_over_the_end) as (url, record):
        run = bench("-t", 2, "-i", 4, "-s", 1, photo, url)
    assert run.code == 0
    assert run.figures["requests"] == len(record.bodies) > 2
    assert run.figures["settings"]["samples"] is None
    assert len(record.bodies) == 6, "nothing is sent once the time is up"
    assert run.figures["duration_s"] > 4, "the last answers came after it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pieces", "close"),
    [
        ([b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[["cat"]]'], False),
        ([b"HTTP/1.1 200 OK\r\nContent-Le", b'ngth: 9\r\n\r\n[["c', b'at"]]'], False),
        ([b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[["c\r\n', b'5\r\nat"]]\r\n0\r\n\r\n'], False),
        ([b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[["cat"]]'], False),
        ([b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n[["cat"]]'], True),
        ([b'HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n[["cat"]]'], True),
        ([b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[["cat"]]'], True),
    ],
    ids=["length", "in pieces", "chunked", "100 Continue", "Connection: close", "HTTP/1.0", "until the end"],
)
def test_every_framing_of_an_answer_is_read(bench, photo, pieces, close):
    with answering_with(*pieces, close=close) as url:
        run = bench("-s", 3, photo, url)
    assert run.code == 0, run.out
    assert run.figures["inferences"] == 3
    assert run.figures["connections"] == (3 if close else 1)
