import json
from urllib.parse import quote, quote_plus

import psutil
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from tests.services.function.functions import notification, record, running_function, s3_environment
from visionserve.services.function.settings import read_settings

CAT = {"top_prediction": [["Egyptian cat"]]}
KEY = "a cat + Zoë.jpg"
STRUCTURED = "application/cloudevents+json"


def cloud_event(data):
    attributes = {"type": "com.amazonaws.s3.ObjectCreated:Put", "source": "ceph:s3.photos", "id": "a1"}
    return CloudEvent({**attributes, "datacontenttype": "application/json"}, data)


def outcome(answer):
    """The only record's name and message, of an event that is done with."""
    assert answer.status_code == 200, answer.text
    [top], [message] = answer.json()["top_prediction"], answer.json().get("messages", [None])
    return top, message


def test_s3_is_connected_to_by_the_first_event(model, ceph, bucket):
    with running_function(**s3_environment(ceph)) as function:
        assert function.get("/?imageName=test1").json() == CAT
        assert function.connections() == []
        assert function.post(notification(record("cat.jpg"))).json() == CAT
        [connection] = function.connections()
        assert connection.status == psutil.CONN_ESTABLISHED
        assert connection.raddr.port == ceph.port


@pytest.mark.parametrize("content_type", [STRUCTURED, "application/application/cloudevents+json"])
@pytest.mark.parametrize("data", [notification(record("cat.jpg")), record("cat.jpg")])
def test_a_structured_event_is_answered_by_an_event(s3_function, content_type, data):
    message = to_structured_event(cloud_event(data))
    answer = s3_function.post(data=message.body, headers={"content-type": f"{content_type}; charset=utf-8"})
    assert (answer.status_code, answer.json()) == (200, CAT)
    event = from_http_event(HTTPMessage({**answer.headers}, answer.content))
    assert (event.get_id(), event.get_type()) == ("a1.classified", "visionserve.image.classified")
    assert event.get_data() == CAT


def test_a_binary_event_is_answered_by_an_event(s3_function):
    message = to_binary_event(cloud_event(notification(record("cat.jpg"))))
    answer = s3_function.post(data=message.body, headers=message.headers)
    assert (answer.status_code, answer.json()) == (200, CAT)
    assert answer.headers["ce-id"] == "a1.classified"


def test_an_event_whose_data_are_base64_is_read(s3_function):
    message = to_structured_event(cloud_event(json.dumps(notification(record("cat.jpg"))).encode()))
    answer = s3_function.post(data=message.body, headers=message.headers)
    assert (answer.status_code, answer.json()) == (200, CAT)


def test_a_bare_notification_is_answered_by_json(s3_function):
    answer = s3_function.post(notification(record("cat.jpg")))
    assert (answer.status_code, answer.json()) == (200, CAT)
    assert not [name for name in answer.headers if name.startswith("ce-")]


@pytest.mark.parametrize(
    ("source", "key"),
    [("ceph:s3", KEY), ("aws:s3", quote_plus(KEY)), ("minio:s3", quote_plus(KEY)), ("aws:s3", quote(KEY))],
)
def test_a_key_is_decoded_as_its_sender_encodes_it(s3_function, source, key):
    assert outcome(s3_function.post(notification(record(key, source=source)))) == (["Egyptian cat"], None)


def test_a_key_of_ceph_that_looks_encoded_is_taken_as_it_is(s3_function):
    top, message = outcome(s3_function.post(notification(record(quote_plus(KEY)))))
    assert (top, message) == ([], f"s3://photos/{quote_plus(KEY)} is not there any more.")


@pytest.mark.parametrize("name", ["ObjectCreated:Put", "s3:ObjectCreated:CompleteMultipartUpload"])
def test_an_object_that_was_created_counts(s3_function, name):
    assert outcome(s3_function.post(notification(record("cat.jpg", name=name)))) == (["Egyptian cat"], None)


@pytest.mark.parametrize(
    ("wanted", "ignored"),
    [
        ("ObjectCreated:Put", "s3:ObjectCreated:Copy"),
        ("s3:ObjectCreated:Copy, s3:ObjectCreated:Put", "ObjectCreated:Post"),
    ],
)
def test_only_the_events_of_s3_event_name_count(monkeypatch, wanted, ignored):
    monkeypatch.setenv("S3_EVENT_NAME", wanted)
    settings = read_settings()
    assert settings.takes("ObjectCreated:Put")
    assert settings.takes("s3:ObjectCreated:Put")
    assert not settings.takes(ignored)


@pytest.mark.parametrize(
    ("ignored", "reason"),
    [
        (record("cat.jpg", name="ObjectRemoved:Delete"), "S3_EVENT_NAME is ObjectCreated:*, not ObjectRemoved:Delete"),
        (record("cat.jpg", bucket="others"), "S3_BUCKET_NAME is photos"),
    ],
)
def test_an_event_that_does_not_count_is_done_with(s3_function, ignored, reason):
    top, message = outcome(s3_function.post(notification(ignored)))
    assert top == []
    assert message == f"s3://{ignored['s3']['bucket']['name']}/cat.jpg is ignored: {reason}."


def test_several_records_are_answered_in_order(s3_function):
    keys = ["coffee.png", "gone.jpg", "cat.jpg", "notes.txt", "large.bmp"]
    answer = s3_function.post(notification(*map(record, keys)))
    assert answer.status_code == 200
    assert answer.json() == {
        "top_prediction": [["espresso"], [], ["Egyptian cat"], [], []],
        "messages": [
            None,
            "s3://photos/gone.jpg is not there any more.",
            None,
            "s3://photos/notes.txt is not an image: send JPEG, PNG, WebP, BMP or GIF.",
            "s3://photos/large.bmp is larger than MAX_IMAGE_BYTES=1000000: it is not read.",
        ],
    }


def test_an_object_that_is_said_to_be_too_large_is_not_asked_for(s3_function):
    announced = record("gone.jpg")
    announced["s3"]["object"]["size"] = 1_000_001
    top, message = outcome(s3_function.post(notification(announced)))
    assert top == []
    assert message == "s3://photos/gone.jpg is larger than MAX_IMAGE_BYTES=1000000: it is not read."


@pytest.mark.parametrize(("key", "status"), [("x" * 1025, 200), ("\ud800", 400), ("", 400)])
def test_a_key_that_no_object_can_have_is_never_asked_for_again(s3_function, key, status):
    answer = s3_function.post(data=json.dumps(notification(record(key))), headers={"content-type": "application/json"})
    assert answer.status_code == status


def test_the_same_event_is_answered_twice(s3_function):
    message = to_binary_event(cloud_event(notification(record("cat.jpg"))))
    answers = [s3_function.post(data=message.body, headers=message.headers) for _ in range(2)]
    assert [answer.json() for answer in answers] == [CAT, CAT]
    assert [answer.headers["ce-id"] for answer in answers] == ["a1.classified", "a1.classified"]


def test_aws_s_test_event_is_done_with(s3_function):
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-21T12:00:00.000Z", "Bucket": "photos"}
    top, message = outcome(s3_function.post(event))
    assert (top, message) == ([], "This is S3's test event: there is nothing to classify.")


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b"[]", 400),
        ("application/json", b'{"Records": [{}]}', 400),
        ("application/json", b'{"Records": "all"}', 400),
        (STRUCTURED, b"", 400),
        (STRUCTURED, b"[]", 400),
        (STRUCTURED, b"{}", 400),
        (STRUCTURED, b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": 5}', 400),
        (STRUCTURED, b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}', 400),
        (STRUCTURED, b'{"specversion": "1.0", "id": "\\ud800", "source": "s", "type": "t", "data": {}}', 400),
        ("application/cloudevents-batch+json", b"[]", 415),
        ("text/plain", b"hello", 415),
        ("", b"{}", 415),
        ("application/json", b" " * (2**20 + 1), 413),
    ],
)
def test_what_is_no_event_is_refused_in_one_sentence(s3_function, content_type, body, status):
    answer = s3_function.post(data=body, headers={"content-type": content_type})
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].endswith(".")


def test_the_field_that_is_wrong_is_named(s3_function):
    answer = s3_function.post({"Records": [record("cat.jpg"), {**record("cat.jpg"), "s3": {"bucket": {"name": "b"}}}]})
    assert answer.status_code == 400
    assert "Records.1.s3.object" in answer.json()["error"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
        ({"S3_ENDPOINT_URL": "nowhere"}, "nowhere"),
        (
            {"S3_SECRET_KEY": "not-the-key"},
            "refuses access (SignatureDoesNotMatch): see S3_ACCESS_KEY and S3_SECRET_KEY",
        ),
        ({"S3_BUCKET_NAME": ""}, "there is no bucket others at http://127.0.0.1:"),
    ],
)
def test_an_event_is_to_be_sent_again_where_s3_is_at_fault(ceph, bucket, wrong, message):
    with running_function(**s3_environment(ceph, ENGINE="null", **wrong)) as function:
        others = "others" if "S3_BUCKET_NAME" in wrong else bucket
        answer = function.post(notification(record("gone.jpg", name="ObjectRemoved:Delete"), record("cat.jpg", others)))
        assert answer.status_code == 503
        assert message in answer.json()["error"]
        assert answer.json()["top_prediction"] == [[], []]
        assert answer.json()["messages"][1] == answer.json()["error"]
        assert "Traceback" not in function.log()
        assert "not-the-key" not in function.log() + answer.text
