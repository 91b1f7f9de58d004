import resource

import pytest

from tests.models.bucket import Bucket, rewrite_manifest, write_build
from visionserve.errors import ModelError
from visionserve.models.s3 import fetch_model


@pytest.fixture
def bucket(ceph, monkeypatch):
    for name, value in ceph.environment.items():
        monkeypatch.setenv(name, value)
    return Bucket(ceph)


def test_a_model_is_fetched_once_and_again_when_it_changes(bucket, tmp_path):
    bucket.put("models/resnet50/1/saved_model.pb", b"one")
    bucket.put("models/resnet50/1/variables/variables.index", b"index")
    bucket.put("models/resnet50_gpu/1/saved_model.pb", b"another model")
    first = fetch_model(f"{bucket.url}/resnet50", tmp_path)
    assert {str(path.relative_to(first)): path.read_bytes() for path in first.rglob("*") if path.is_file()} == {
        "1/saved_model.pb": b"one",
        "1/variables/variables.index": b"index",
    }
    written = (first / "1" / "saved_model.pb").stat().st_mtime_ns
    assert fetch_model(f"{bucket.url}/resnet50", tmp_path) == first
    assert (first / "1" / "saved_model.pb").stat().st_mtime_ns == written
    bucket.put("models/resnet50/1/saved_model.pb", b"two")
    second = fetch_model(f"{bucket.url}/resnet50", tmp_path)
    assert second != first
    assert (second / "1" / "saved_model.pb").read_bytes() == b"two"


def test_an_empty_prefix_and_a_missing_bucket_are_one_sentence(bucket, tmp_path):
    with pytest.raises(ModelError, match=f"nothing under {bucket.url}/none"):
        fetch_model(f"{bucket.url}/none", tmp_path)
    with pytest.raises(ModelError, match="s3://elsewhere/models cannot be read: there is no bucket elsewhere: create"):
        fetch_model("s3://elsewhere/models", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_would_leave_its_folder_is_refused(bucket, tmp_path):
    bucket.put("models/bad/../../escaped", b"x")
    with pytest.raises(ModelError, match="leaves its folder"):
        fetch_model(f"{bucket.url}/bad", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["none", "an altered file", "a file too few", "a file too many", "a cut manifest"])
def test_a_build_that_is_not_what_its_model_json_says_is_refused(bucket, tmp_path, damage):
    build = write_build(tmp_path / "build")
    cache = tmp_path / "cache"
    if damage == "an altered file":
        (build / "saved_model.pb").write_bytes(b"x")
    elif damage == "a file too few":
        (build / "variables/variables.index").unlink()
    elif damage == "a file too many":
        (build / "assets").mkdir()
        (build / "assets/list.txt").write_text("x")
    elif damage == "a cut manifest":
        rewrite_manifest(build, files=None)
    for path in build.rglob("*"):
        if path.is_file():
            bucket.put(f"models/resnet50/1/{path.relative_to(build)}", path.read_bytes())
    if damage == "none":
        fetched = fetch_model(f"{bucket.url}/resnet50", cache)
        assert (fetched / "1/model.json").read_bytes() == (build / "model.json").read_bytes()
    else:
        with pytest.raises(ModelError, match=f"^{bucket.url}/resnet50 is damaged"):
            fetch_model(f"{bucket.url}/resnet50", cache)
        assert list(cache.iterdir()) == []


def test_a_disk_without_room_is_one_sentence(bucket, tmp_path):
    bucket.put("models/resnet50/1/saved_model.pb", bytes(2_000_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(ModelError, match=f"^{bucket.url}/resnet50 could not be stored in .*: File too large"):
            fetch_model(f"{bucket.url}/resnet50", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
