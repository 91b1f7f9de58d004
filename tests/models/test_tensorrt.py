import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from google.protobuf import text_format

from tests.conftest import REPOSITORY, run
from tests.models.fake_tensorrt import ENGINE, Gpu, replaced_by_calls
from tests.models.small_build import SIGNATURE, write_small_build
from visionserve.cli import main
from visionserve.errors import ModelError
from visionserve.models.builds.graph import read_saved_model
from visionserve.models.builds.manifest import file_hashes, read_manifest
from visionserve.models.builds.tensorrt import checks, converter, parts
from visionserve.models.builds.tensorrt import export as conversion
from visionserve.models.cli.tensorrt import tensorrt as command

T4 = parts.Parts(tensorflow="2.17.1", tensorrt="8.6.1", libraries=None, gpu="Tesla T4")
REQUIREMENTS = REPOSITORY / "requirements" / "tensorrt.txt"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def small_build(tmp_path_factory):
    return write_small_build(tmp_path_factory.mktemp("models") / "small" / "1", 1 / 5000).parent


@pytest.fixture
def gpu(monkeypatch, tmp_path_factory):
    """A machine with TensorRT and a GPU, all of it fake."""
    gpu = Gpu()

    def run_here(step, job, parts):
        if step == "convert":
            return converter.convert(job)
        runnable = replaced_by_calls(job.folder, tmp_path_factory.mktemp("runnable") / "1")
        return converter.answer(job.model_copy(update={"folder": runnable}))

    monkeypatch.setattr(parts, "find_parts", lambda: T4)
    monkeypatch.setattr(converter, "converter_class", gpu.converter_class)
    monkeypatch.setattr(conversion, "run_apart", run_here)
    return gpu


def export(*arguments):
    return CliRunner().invoke(main, ["export", "tensorrt", *map(str, arguments)])


def visionserve(*arguments, before=""):
    code = f"{before}\nfrom visionserve.cli import main\nmain(prog_name='visionserve')"
    return run([sys.executable, "-c", code, *map(str, arguments)])


def test_resnet50_is_converted_with_a_fake_converter(model, gpu, pictures, tmp_path):
    output = tmp_path / "resnet50_gpu" / "1"
    done = export("--model", model, "--output", output, "--batch-sizes", "4,1", "--pictures", pictures)
    assert done.exit_code == 0, done.output
    assert "3 pictures: top-1 100.0% the same" in done.output
    [told] = gpu.told
    assert {name: told[name] for name in told if name != "input_saved_model_dir"} == {
        "input_saved_model_tags": None,
        "input_saved_model_signature_key": "serving_default",
        "use_dynamic_shape": True,
        "dynamic_shape_profile_strategy": "Range+Optimal",
        "max_workspace_size_bytes": (1 << 63) - 513,
        "precision_mode": "FP16",
        "minimum_segment_size": 3,
        "maximum_cached_engines": 3,
        "use_calibration": False,
        "allow_build_at_runtime": True,
        "conversion_params": None,
    }
    assert told["input_saved_model_dir"] == str(model / "1")
    assert [len(batch) for batch in gpu.batches] == [1, 4]
    manifest = read_manifest(output)
    assert (manifest.target, manifest.model, manifest.signatures) == ("tensorrt", "resnet50", [SIGNATURE])
    assert manifest.weights == read_manifest(model / "1").weights
    assert manifest.versions.keys() == {"visionserve", "tensorflow", "tensorrt", "python"}
    in_segments = manifest.settings.pop("in_segments")
    assert 0.9 < in_segments < 1
    assert manifest.settings == {
        "batch_sizes": [1, 4],
        "minimum_segment_size": 3,
        "shapes": "dynamic",
        "precision": "FP16",
        "gpu": "Tesla T4",
    }
    assert manifest.agreement is not None
    assert 0 < manifest.agreement.largest_difference < 2e-2
    assert manifest.describes(output)
    assert f"assets/trt-serialized-engine.{ENGINE}" in manifest.files


def test_static_shapes_get_an_engine_for_each_size_from_the_smallest_on_with_a_fake_converter(
    small_build, gpu, tmp_path
):
    options = ["--shapes", "static", "--batch-sizes", "8,1,2", "--minimum-segment-size", "5"]
    done = export("--model", small_build, "--output", tmp_path / "1", *options)
    assert done.exit_code == 0, done.output
    [told] = gpu.told
    assert (told["use_dynamic_shape"], told["dynamic_shape_profile_strategy"]) == (False, None)
    assert (told["minimum_segment_size"], told["maximum_cached_engines"]) == (5, 4)
    assert [len(batch) for batch in gpu.batches] == [1, 2, 8]


def test_no_request_waits_for_an_engine_with_a_fake_converter(small_build, gpu, tmp_path):
    assert export("--model", small_build, "--output", tmp_path / "1", "--batch-sizes", "1").exit_code == 0
    saved_model = read_saved_model(tmp_path / "1")
    functions = saved_model.meta_graphs[0].graph_def.library.function
    [engine] = [node for function in functions for node in function.node_def if node.op == "TRTEngineOp"]
    assert engine.attr["_allow_build_at_runtime"].WhichOneof("value") == "b"
    assert not engine.attr["_allow_build_at_runtime"].b


def test_the_same_build_is_not_made_again_with_a_fake_converter(small_build, gpu, tmp_path, monkeypatch):
    arguments = ["--model", small_build, "--output", tmp_path / "1", "--batch-sizes", "1"]
    assert export(*arguments).exit_code == 0
    assert "holds this build already" in export(*arguments).output
    assert len(gpu.told) == 1
    assert "wrote" in export(*arguments, "--force").output
    assert "wrote" in export(*arguments[:-1], "1,2").output
    monkeypatch.setattr(parts, "find_parts", lambda: parts.Parts("2.17.1", "8.6.1", None, "NVIDIA A10G"))
    assert "wrote" in export(*arguments[:-1], "1,2").output
    assert read_manifest(tmp_path / "1").settings["gpu"] == "NVIDIA A10G"


def add(difference):
    return lambda answers: answers + difference * np.eye(1, 1000, 7, dtype=np.float32)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"outside": 15}, "only 8[45].* are in TensorRT segments, and 90% must be.*outside are .* Abs"),
        ({"memory": False}, f"built no engine for the segment {ENGINE}"),
        ({"precision": b"FP32"}, f"segment {ENGINE} is not in FP16"),
        ({"spoil": add(0.03)}, "in batches of 1, .* differ from the CPU build's by up to 0.03"),
        ({"spoil": add(0.015)}, "differ .* by up to 0.015, and its likeliest class is the same for 0% of the"),
        ({"spoil": add(np.nan)}, "differ from the CPU build's by up to inf"),
        ({"output": "output_0"}, r"serving_default \(input uint8 .* -> output_0 float32 .*\), and not serving_default"),
        ({"fails": RuntimeError("out of memory")}, "TF-TRT could not convert the model: out of memory"),
    ],
)
def test_a_wrong_build_of_a_fake_converter_is_discarded(small_build, gpu, tmp_path, wrong, sentence):
    output = tmp_path / "models" / "1"
    shutil.copytree(small_build / "1", output)
    before = file_hashes(output)
    for name, value in wrong.items():
        setattr(gpu, name, value)
    done = export("--model", small_build, "--output", output, "--batch-sizes", "1", "--force")
    assert done.exit_code == 1
    assert re.search(sentence, done.output), done.output
    assert done.output.splitlines()[-1].startswith("Error: ")
    assert file_hashes(output) == before
    assert [path.name for path in output.parent.iterdir()] == ["1"]


def test_engines_that_could_be_built_at_a_request_are_refused_with_a_fake_converter(
    small_build, gpu, tmp_path, monkeypatch
):
    monkeypatch.setattr(converter, "forbid_builds", lambda folder: None)
    done = export("--model", small_build, "--output", tmp_path / "models" / "1", "--batch-sizes", "1")
    assert "would build engines while requests wait" in done.output
    assert list((tmp_path / "models").iterdir()) == []


@pytest.fixture
def converted():
    """What TensorFlow 2.17.1's own converter made of the CPU build, without weights, most attributes and engines.

    It had a libnvinfer that only tells its version, 8.6.1, and believed that there is a GPU.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    return text_format.Parse((REPOSITORY / "tests/models/tf_trt_resnet50.pbtxt").read_text(), SavedModel())


def test_a_real_conversion_has_the_signature_and_all_but_the_cast_in_one_segment(converted):
    checks.check_signature(converted, SIGNATURE)
    assert checks.check_segments(converted) == 180 / 181
    with pytest.raises(ModelError, match=f"no engine for the segment {ENGINE}"):
        checks.check_engines(converted, REPOSITORY)


def test_a_real_conversion_with_more_operations_outside_is_refused(converted):
    functions = {function.signature.name: function for function in converted.meta_graphs[0].graph_def.library.function}
    segment = functions[f"{ENGINE}_native_segment"]
    [caller] = [function for function in functions.values() if "TRTEngineOp" in [node.op for node in function.node_def]]
    left = [node for node in segment.node_def if node.op == "Relu"][:17]
    for number, node in enumerate(left):
        segment.node_def.remove(node)
        caller.node_def.append(node)
        assert number == 16 or checks.check_segments(converted) > 0.9
        if number == 16:
            assert checks.check_segments(converted) == 163 / 181
    caller.node_def.extend(left[:2])
    with pytest.raises(ModelError, match=r"only 89.1%.*outside are 19 Relu, 1 Cast"):
        checks.check_segments(converted)


def test_a_signature_beside_the_wanted_one_is_refused(converted):
    graph = converted.meta_graphs[0]
    graph.signature_def["other"].CopyFrom(graph.signature_def["serving_default"])
    with pytest.raises(ModelError, match=r"signatures are other .*, serving_default .*, and not serving_default"):
        checks.check_signature(converted, SIGNATURE)


def test_a_converter_that_aborts_its_process_is_one_sentence(small_build, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "find_parts", lambda: T4)
    aborting = tmp_path / "python"
    aborting.write_text("#!/bin/sh\necho getInferLibVersion symbol not found. >&2\nkill -ABRT $$\n")
    aborting.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(aborting))
    done = export("--model", small_build, "--output", tmp_path / "models" / "1")
    assert done.exit_code == 1
    assert "SIGABRT ended TF-TRT as it was to convert the model: getInferLibVersion symbol not found." in done.output
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.slow
def test_a_tensorflow_without_tf_trt_is_told_by_the_process_that_loads_it(small_build, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "find_parts", lambda: T4)
    done = export("--model", small_build, "--output", tmp_path / "models" / "1")
    assert done.exit_code == 3
    assert "was built without TF-TRT: run pip install tensorflow==2.17.1" in done.output
    assert list((tmp_path / "models").iterdir()) == []


def test_a_machine_with_another_tensorflow_is_told_the_commands(tmp_path):
    done = visionserve("export", "tensorrt", "--output", tmp_path / "1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "needs the TF-TRT of TensorFlow 2.17, and this is TensorFlow 2." in done.stderr
    assert "pip install -r requirements/tensorrt.txt && pip install tensorrt==8.6.1.post1" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_tensorflow_is_told_the_commands(tmp_path):
    blocked = "import sys; sys.modules['tensorflow'] = None"
    done = visionserve("export", "tensorrt", "--output", tmp_path / "1", before=blocked)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "needs TensorFlow 2.17, which is not installed: run python3.11 -m venv .venv-tensorrt" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """TensorFlow 2.17 as far as one can see, and the folder where pip puts TensorRT's libraries; no GPU."""
    folder = tmp_path / "site" / "tensorrt_libs"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setattr(parts, "version", lambda distribution: "2.17.1")
    monkeypatch.setattr(parts, "DRIVER", str(tmp_path / "libcuda.so.1"))
    return folder


def compiled(path, code):
    """A library whose own name is its file's, as of pip's libraries of TensorRT."""
    options = ["-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-x", "c", "-", "-o", str(path)]
    subprocess.run(["cc", *options], input=code, text=True, check=True)


@pytest.mark.parametrize("content", [None, "no library"])
def test_a_machine_without_tensorrt_s_libraries_is_told_the_command(libraries, tmp_path, content):
    for name in ("libnvinfer.so.8", "libnvinfer_plugin.so.8"):
        if content is not None:
            (libraries / name).write_text(content)
    done = export("--output", tmp_path / "1")
    assert done.exit_code == 3
    assert "TensorRT 8.6's libnvinfer.so.8.6.1 and libnvinfer_plugin.so.8.6.1, and" in done.output
    assert ("they are not here" if content is None else f"those in {libraries} cannot be loaded") in done.output
    assert done.output.endswith("run pip install tensorrt==8.6.1.post1\n")
    assert not (tmp_path / "1").exists()


@needs_compiler
def test_libraries_of_another_tensorrt_are_not_taken_with_fake_libraries(libraries, tmp_path):
    compiled(libraries / "libnvinfer.so.8", "int getInferLibVersion(void) { return 8502; }")
    compiled(libraries / "libnvinfer_plugin.so.8", "int plugins;")
    done = export("--output", tmp_path / "1")
    assert done.exit_code == 3
    assert f"those in {libraries} are of TensorRT 8.5.2: run pip install" in done.output


@needs_compiler
def test_what_pip_installs_is_found_and_then_the_gpu_is_missing_with_fake_libraries(libraries, tmp_path):
    compiled(libraries / "libnvinfer.so.8", "int getInferLibVersion(void) { return 8601; }")
    compiled(libraries / "libnvinfer_plugin.so.8", "int plugins;")
    done = export("--output", tmp_path / "1")
    assert done.exit_code == 3
    assert "this machine has none: take one with an NVIDIA GPU" in done.output
    assert not (tmp_path / "1").exists()
    driver = """
        #include <string.h>
        int cuInit(int flags) { return 0; }
        int cuDeviceGetCount(int *count) { *count = 1; return 0; }
        int cuDeviceGet(int *device, int number) { *device = number; return 0; }
        int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Tesla T4", length); return 0; }
    """
    compiled(tmp_path / "libcuda.so.1", driver)
    assert parts.find_parts() == parts.Parts("2.17.1", "8.6.1", libraries, "Tesla T4")


def test_batch_sizes_must_hold_1(small_build, gpu, tmp_path):
    done = export("--model", small_build, "--output", tmp_path / "models" / "1", "--batch-sizes", "8,32")
    assert done.exit_code == 2
    assert "--batch-sizes lack 1" in done.output
    assert not (tmp_path / "models").exists()


def test_the_default_batch_sizes_go_as_far_as_the_gpu_spec_joins_requests():
    [option] = [option for option in command.params if option.name == "batch_sizes"]
    [spec] = yaml.safe_load((REPOSITORY / "cortex_gpu.yaml").read_text())
    sizes = option.type.convert(option.default, option, None)
    assert (sizes[0], sizes[-1]) == (1, spec["predictor"]["server_side_batching"]["max_batch_size"])


def test_help_has_an_example_and_imports_no_tensorflow():
    check = "import atexit, sys; atexit.register(lambda: print({'tensorflow', 'keras'} & set(sys.modules) or 'light'))"
    done = visionserve("export", "tensorrt", "--help", before=check)
    assert done.returncode == 0
    assert "visionserve export tensorrt --batch-sizes 1,8,32" in done.stdout
    assert done.stdout.endswith("light\n")


def test_the_requirements_hold_what_the_export_imports():
    modules = [
        "visionserve.cli",
        "visionserve.models.builds.pictures",
        *(f"visionserve.models.builds.tensorrt.{module}" for module in ("export", "parts")),
    ]
    code = f"""
import importlib, json, sys
from importlib.metadata import packages_distributions
for name in {modules}:
    importlib.import_module(name)
found = packages_distributions()
print(json.dumps([found[name][0] for name in {{name.partition(".")[0] for name in sys.modules}} if name in found]))
"""
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    imported = {name.lower().replace("_", "-") for name in json.loads(done.stdout)} - {
        "visionserve",
        "setuptools",
        "pip",
    }
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines)
    pinned = {re.split(r"[\[=]", line)[0].lower().replace("_", "-") for line in lines}
    assert {"tensorflow", "numpy", "pydantic"} <= pinned
    assert imported - pinned <= {"simplejpeg"}, "vision does without it"
