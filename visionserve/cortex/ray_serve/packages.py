"""Folders on their way to the nodes: packages of Ray's runtime environments, named by content and kept in its GCS."""

import shutil
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import visionserve
from visionserve.cortex.local_models import cpu_build
from visionserve.cortex.project_files import IGNORE_FILE, project_files
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import DeploymentError, ModelError
from visionserve.inference.model_folder import find_version, find_versions

# Ray drops a package when nothing has used it for a while, and a replica that is started again must find it.
KEPT_SECONDS = 10 * 365 * 24 * 3600
NAMESPACE = "visionserve"
# What a replica does not need of this package.
WITHOUT = ("/bench/", "/services/", "/streaming/", "__pycache__/")


@dataclass(frozen=True)
class Package:
    """A folder and what of it is left out. `named`: it is unpacked as a folder of its own name."""

    folder: Path
    without: tuple[str, ...] = ()
    named: bool = True

    @property
    def uri(self) -> str:
        from ray._private.runtime_env.packaging import get_uri_for_directory

        return get_uri_for_directory(str(self.folder), include_gitignore=False, excludes=list(self.without))

    def size(self) -> int:
        """Bytes, of all files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def upload(self, uri: str) -> None:
        """Does nothing where the cluster has it."""
        from ray._private.runtime_env.packaging import pin_runtime_env_uri, upload_package_if_needed

        with tempfile.TemporaryDirectory() as scratch:
            upload_package_if_needed(
                uri, scratch, str(self.folder), False, include_parent_dir=self.named, excludes=list(self.without)
            )
        pin_runtime_env_uri(uri, expiration_s=KEPT_SECONDS)


def own_package() -> Package:
    return Package(Path(visionserve.__file__).parent, WITHOUT)


def project_package(spec: ApiSpec, models: Iterable[Path], staging: Path) -> Package:
    """A copy of the project in `staging`, without its models. Raises DeploymentError where Ray would not take it."""
    for path in project_files(spec.project, list(models)):
        target = staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(spec.project / path, target)
    package = Package(staging, named=False)
    _check_size(
        package, f"The project {spec.project}", f"name what {spec.predictor.path} does not need in {IGNORE_FILE}"
    )
    return package


def model_packages(spec: ApiSpec, on_cpu: bool = False) -> dict[str, Package]:
    """The models of this machine that a spec names, by the path that it names them by.

    `on_cpu`: --compute cpu, where a build for other hardware gives way to its CPU build.
    Raises ModelError for one that is missing, DeploymentError for one that Ray would not take.
    """
    predictor = spec.predictor
    if predictor.type != "tensorflow":
        return {}
    named = [
        predictor.model_path,
        *(model.model_path for model in (predictor.models.paths if predictor.models else ())),
    ]
    packages = {
        location: _model_package(spec.project / location, on_cpu)
        for location in named
        if location is not None and not location.startswith("s3://")
    }
    if predictor.models is not None and predictor.models.dir and not predictor.models.dir.startswith("s3://"):
        folder = spec.project / predictor.models.dir
        if not folder.is_dir():
            raise ModelError(f"The folder {folder} of predictor.models.dir is missing.")
        packages[predictor.models.dir] = Package(folder)
    for location, package in packages.items():
        _check_size(package, f"The model {location}", "put it into S3 with visionserve publish, and deploy from there")
    return packages


def keep(uris: Iterable[str], name: str) -> None:
    """Notes on the cluster that the API `name` uses them."""
    from ray.experimental.internal_kv import _internal_kv_put

    for uri in uris:
        _internal_kv_put(f"{uri} {name}", b"", namespace=NAMESPACE)


def release(name: str, but: Collection[str] = ()) -> None:
    """The API `name` uses no package any more, `but` those: what no other API uses is removed from the cluster."""
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_list

    uses = [key.decode().split(" ") for key in _internal_kv_list("", namespace=NAMESPACE)]
    for uri in [uri for uri, user in uses if user == name and uri not in but]:
        _internal_kv_del(f"{uri} {name}", namespace=NAMESPACE)
        if not any(other == uri and user != name for other, user in uses):
            _internal_kv_del(uri)


def _model_package(folder: Path, on_cpu: bool) -> Package:
    """The highest version only: it is the one that is served."""
    if on_cpu:
        folder = cpu_build(folder) or folder
    version, chosen = find_version(folder)
    others = [str(number) for number, _ in find_versions(folder) if number != version] if chosen != folder else []
    return Package(folder, tuple(f"/{other}/" for other in others))


def _check_size(package: Package, noun: str, remedy: str) -> None:
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    size = package.size()
    if size >= GCS_STORAGE_MAX_SIZE:
        raise DeploymentError(
            f"{noun} has {size >> 20} MiB, more than the {GCS_STORAGE_MAX_SIZE >> 20} that Ray brings to its nodes: "
            f"{remedy}."
        )
