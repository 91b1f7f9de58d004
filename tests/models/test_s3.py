import subprocess
import sys

import boto3
import pytest
import requests

from tests.conftest import free_port
from visionserve.errors import ModelError
from visionserve.models.s3 import fetch_model


@pytest.fixture(scope="module")
def moto():
    """The URL of a stand-in for AWS, which cannot run here."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "Running on" not in process.stderr.readline():
        assert process.poll() is None
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate()


@pytest.fixture
def moto_s3(moto, monkeypatch):
    """A client of the stand-in, which holds nothing but an empty bucket."""
    environment = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    environment |= {"AWS_ENDPOINT_URL": moto, "AWS_MAX_ATTEMPTS": "8"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    yield client
    requests.post(f"{moto}/moto-api/reset", timeout=60).raise_for_status()


def test_a_model_on_a_moto_s3_stand_in_is_fetched_once_and_again_when_it_changes(moto_s3, tmp_path):
    moto_s3.put_object(Bucket="bucket", Key="models/resnet50/1/saved_model.pb", Body=b"one")
    moto_s3.put_object(Bucket="bucket", Key="models/resnet50/1/variables/variables.index", Body=b"index")
    moto_s3.put_object(Bucket="bucket", Key="models/resnet50_gpu/1/saved_model.pb", Body=b"another model")
    first = fetch_model("s3://bucket/models/resnet50", tmp_path)
    assert {str(path.relative_to(first)): path.read_bytes() for path in first.rglob("*") if path.is_file()} == {
        "1/saved_model.pb": b"one",
        "1/variables/variables.index": b"index",
    }
    written = (first / "1" / "saved_model.pb").stat().st_mtime_ns
    assert fetch_model("s3://bucket/models/resnet50", tmp_path) == first
    assert (first / "1" / "saved_model.pb").stat().st_mtime_ns == written
    moto_s3.put_object(Bucket="bucket", Key="models/resnet50/1/saved_model.pb", Body=b"two")
    second = fetch_model("s3://bucket/models/resnet50", tmp_path)
    assert second != first
    assert (second / "1" / "saved_model.pb").read_bytes() == b"two"


def test_an_empty_prefix_and_a_missing_bucket_on_a_moto_s3_stand_in_are_one_sentence(moto_s3, tmp_path):
    with pytest.raises(ModelError, match="nothing under s3://bucket/models/none"):
        fetch_model("s3://bucket/models/none", tmp_path)
    with pytest.raises(ModelError, match="s3://elsewhere/models cannot be read"):
        fetch_model("s3://elsewhere/models", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_would_leave_its_folder_is_refused_on_a_moto_s3_stand_in(moto_s3, tmp_path):
    moto_s3.put_object(Bucket="bucket", Key="models/bad/../../escaped", Body=b"x")
    with pytest.raises(ModelError, match="leaves its folder"):
        fetch_model("s3://bucket/models/bad", tmp_path)
    assert list(tmp_path.iterdir()) == []
