"""Ceph itself calls the function, which says in its log what came of it: the answer goes to Ceph."""

import pytest

from tests.conftest import wait_for
from tests.photos import encoded, photographs

FOLDER = "uploads/"


@pytest.fixture(scope="module")
def upload(ceph, bucket, s3_function):
    """Puts a file into a folder of which Ceph notifies the function; gives its key."""
    topic = ceph.client("sns").create_topic(Name="function", Attributes={"push-endpoint": s3_function.url})
    configuration = {
        "Id": "uploads",
        "TopicArn": topic["TopicArn"],
        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": FOLDER}]}},
    }
    s3 = ceph.client()
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"TopicConfigurations": [configuration]}
    )

    def put(name, content):
        s3.put_object(Bucket=bucket, Key=FOLDER + name, Body=content)
        return FOLDER + name

    return put


@pytest.mark.parametrize("name", ["cat.jpg", "my cat + Zoë 100%25.jpg"])
def test_a_photo_is_classified_when_it_is_uploaded(s3_function, upload, name):
    key = upload(name, encoded(photographs()["chelsea"], ".jpg"))
    wait_for(lambda: f"classified 's3://photos/{key}': Egyptian cat" in s3_function.log())


def test_a_file_that_is_no_image_is_said_to_be_none(s3_function, upload):
    key = upload("notes.txt", b"no image")
    wait_for(lambda: f"not classified: 's3://photos/{key} is not an image" in s3_function.log())


def test_an_object_that_is_removed_is_left_alone(ceph, bucket, s3_function, upload):
    key = upload("short-lived.jpg", encoded(photographs()["chelsea"], ".jpg"))
    ceph.client().delete_object(Bucket=bucket, Key=key)
    wait_for(lambda: f"ignored 's3://photos/{key}': S3_EVENT_NAME" in s3_function.log())
