import dataclasses
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY, run
from tests.models import neuron_op
from tests.models.fake_neuron import Compiler, install
from tests.models.small_build import SIGNATURE, write_small_build
from visionserve.cli import main
from visionserve.models.builds.manifest import read_manifest
from visionserve.models.builds.neuron import parts
from visionserve.models.builds.pictures import folder_pictures

INF1 = ("tensorflow-neuron", "tensorflow.neuron", "2.10.1.2.11.4.0", "neuron-cc")
INF2 = ("tensorflow-neuronx", "tensorflow_neuronx", "2.10.1.2.1.0", "neuronx-cc")
FLAGS = {
    INF1: "--fp32-cast=all-fp16 --neuroncore-pipeline-cores=1 --static-weights --dynamic-batch-size",
    INF2: "--auto-cast=all --auto-cast-type=fp16 --dynamic-batch-size",
}
VARIABLES = ("NEURON_CC_FLAGS", "NEURON_RT_NUM_CORES")


@pytest.fixture(scope="module")
def small_build(tmp_path_factory):
    return write_small_build(tmp_path_factory.mktemp("models") / "small" / "1", 1 / 50)


class Machine:
    """This process, as if it ran on an instance with a Neuron device and a compiler."""

    def __init__(self, folder, monkeypatch, pictures):
        self.folder, self.monkeypatch, self.pictures = folder, monkeypatch, pictures
        self.output = folder / "models" / "resnet50_neuron" / "1"
        (folder / "dev").mkdir()
        (folder / "dev" / "neuron0").touch()
        monkeypatch.setattr(parts, "DEVICES", folder / "dev")
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)

    def install(self, package, module, version, command, **faults):
        import tensorflow  # noqa: F401 - tensorflow.neuron is a part of it

        site = self.folder / package
        install(site, package, version, command)
        self.monkeypatch.syspath_prepend(str(site))
        self.monkeypatch.setenv("PATH", f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}")
        compiler = Compiler(folder_pictures(self.pictures), **faults)
        self.monkeypatch.setitem(sys.modules, module, compiler.module(module))
        return compiler

    def export(self, model, *arguments):
        places = ["--model", str(model), "--output", str(self.output), "--pictures", str(self.pictures)]
        return CliRunner().invoke(main, ["export", "neuron", *places, *arguments])

    def environment(self):
        return [os.environ.get(name) for name in VARIABLES]


@pytest.fixture
def machine(tmp_path, monkeypatch, pictures):
    return Machine(tmp_path, monkeypatch, pictures)


def answers(folder, pixels):
    import tensorflow

    loaded = tensorflow.saved_model.load(str(folder))
    return loaded.signatures["serving_default"](input=tensorflow.constant(pixels))["output"].numpy()


def test_resnet50_is_compiled_and_written_with_a_fake_compiler(machine, model):
    compiler = machine.install(*INF1)
    done = machine.export(model)
    assert done.exit_code == 0, done.output
    assert f"NEURON_CC_FLAGS={FLAGS[INF1]}\n" in done.output
    assert "3 pictures: top-1 100.0% the same" in done.output
    pixels = folder_pictures(machine.pictures)
    wanted = answers(model / "1", pixels)
    # What went into the compiler is the CPU build, whole.
    np.testing.assert_allclose(compiler.answers[0], wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(answers(machine.output, pixels), wanted, rtol=0, atol=1e-5)
    manifest, cpu = read_manifest(machine.output), read_manifest(model / "1")
    assert (manifest.target, manifest.weights, manifest.classes) == ("neuron", cpu.weights, cpu.classes)
    assert manifest.signatures == [SIGNATURE]
    assert manifest.describes(machine.output)
    assert manifest.agreement.pictures == 3
    assert manifest.agreement.largest_difference < 1e-4
    assert {"tensorflow-neuron": "2.10.1.2.11.4.0", "neuron-cc": "2.0"}.items() <= manifest.versions.items()
    on_neuron = manifest.settings.pop("on_neuron")
    assert 0.97 < on_neuron <= 0.98
    assert manifest.settings == {
        "compiler": "neuron-cc",
        "flags": FLAGS[INF1].split(),
        "batch_sizes": [1],
        "cores": 1,
        "static_weights": True,
        "cast": "fp16",
    }


@pytest.mark.slow
@pytest.mark.parametrize("package", [INF1, INF2], ids=["inf1", "inf2"])
def test_a_fake_compiler_sees_all_its_flags_and_nothing_else_does(machine, small_build, package):
    compiler = machine.install(*package)
    assert machine.export(small_build).exit_code == 0
    assert (compiler.flags, compiler.cores, compiler.shapes) == ([FLAGS[package]], ["1"], [[1, 224, 224, 3]])
    assert machine.environment() == [None, None]


@pytest.mark.slow
def test_the_user_s_own_flags_come_first_and_are_kept_with_a_fake_compiler(machine, small_build, monkeypatch):
    compiler = machine.install(*INF2)
    monkeypatch.setenv("NEURON_CC_FLAGS", "--workdir=logs --auto-cast=none")
    monkeypatch.setenv("NEURON_RT_NUM_CORES", "2")
    assert machine.export(small_build).exit_code == 0
    assert compiler.flags == [f"--workdir=logs --auto-cast=none {FLAGS[INF2]}"]
    assert machine.environment() == ["--workdir=logs --auto-cast=none", "2"]


@pytest.mark.slow
def test_cores_and_weights_are_options_of_the_fake_compiler_for_inf1(machine, small_build):
    compiler = machine.install(*INF1)
    assert machine.export(small_build, "--cores", "4", "--no-static-weights").exit_code == 0
    assert compiler.flags == ["--fp32-cast=all-fp16 --neuroncore-pipeline-cores=4 --dynamic-batch-size"]
    assert compiler.cores == ["4"]


@pytest.mark.parametrize("option", [["--cores", "2"], ["--no-static-weights"]])
def test_an_option_that_the_fake_compiler_for_inf2_has_not_is_wrong_usage(machine, small_build, option):
    compiler = machine.install(*INF2)
    done = machine.export(small_build, *option)
    assert (done.exit_code, compiler.flags) == (2, [])
    assert done.output.startswith(f"Error: {' '.join(option)}: neuronx-cc ")


@pytest.mark.slow
def test_each_batch_goes_to_the_smallest_size_that_holds_it_with_a_fake_compiler(machine, small_build, monkeypatch):
    compiler = machine.install(*INF1, off_neuron=1)
    assert machine.export(small_build, "--batch-sizes", "4,1").exit_code == 0
    assert compiler.shapes == [[1, 224, 224, 3], [4, 224, 224, 3]]
    assert read_manifest(machine.output).settings["batch_sizes"] == [1, 4]
    ran = []

    def watched(executable):
        def compute(batch):
            ran.append(executable.size)
            return executable.compute(batch)

        return dataclasses.replace(executable, compute=compute)

    for name, executable in neuron_op.EXECUTABLES.items():
        monkeypatch.setitem(neuron_op.EXECUTABLES, name, watched(executable))
    known = folder_pictures(machine.pictures)
    for count, wanted in [(1, [1]), (2, [4]), (4, [4]), (9, [4, 4, 4])]:
        ran.clear()
        pixels = np.concatenate([known] * 3)[:count]
        np.testing.assert_allclose(answers(machine.output, pixels), answers(small_build, pixels), rtol=0, atol=1e-5)
        assert ran == wanted


def other_class(probabilities):
    """Each picture's likeliest class a hair below its second."""
    first, second = np.argsort(-probabilities, axis=1)[:, :2].T
    rows = np.arange(len(probabilities))
    spoiled = probabilities.copy()
    spoiled[rows, second] = probabilities[rows, first] + 1e-6
    return spoiled


WRONG = {
    "94 % on Neuron by its graph": ({"off_neuron": 6, "says": 0.99}, "by its graph, which leaves 10 Abs"),
    "94 % on Neuron by the compiler": ({"says": 0.94}, "only 94.0% of the compiled model's operations are on Neuron"),
    "94 on Neuron by the compiler": ({"says": 94.0}, "only 94.0% of the compiled model's operations are on Neuron"),
    "no part on Neuron": ({"says": math.nan}, "only nan% of the compiled model's operations are on Neuron"),
    "off by 3e-2": ({"spoil": lambda answers: answers + np.float32(3e-2)}, "by up to 0.03, and its likeliest"),
    "one NaN": ({"spoil": lambda answers: np.where(answers == answers.max(), np.nan, answers)}, "by up to inf"),
    "another likeliest class": ({"spoil": other_class}, "its likeliest class is the same for 0% of the pictures"),
    "FP16 probabilities": ({"spoil": lambda answers: answers.astype(np.float16)}, "the compiled model's signature is"),
    "999 classes": ({"spoil": lambda answers: answers[:, :999]}, "gives [3, 999] probabilities"),
    "one batch size": ({"dynamic": False}, "in batches of 2, the model fails: "),
    "a compiler that fails": ({"fails": RuntimeError("out of memory")}, "neuron-cc could not compile the model with "),
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG)
def test_a_build_that_a_fake_compiler_made_wrong_is_refused(machine, small_build, wrong):
    faults, sentence = WRONG[wrong]
    machine.install(*INF1, **faults)
    done = machine.export(small_build)
    assert done.exit_code == 1
    assert sentence in done.output
    assert done.output.count("Error: ") == 1
    assert done.output.splitlines()[-1].startswith("Error: ")
    assert list(machine.output.parent.iterdir()) == []
    assert machine.environment() == [None, None]


@pytest.mark.slow
def test_the_old_build_stays_where_a_fake_compiler_made_a_wrong_one(machine, small_build):
    compiler = machine.install(*INF2)
    assert machine.export(small_build).exit_code == 0
    compiler.off_neuron = 6
    assert machine.export(small_build, "--force").exit_code == 1
    assert read_manifest(machine.output).describes(machine.output)
    assert len(compiler.flags) == 2


@pytest.mark.slow
def test_the_same_build_is_compiled_once_and_another_again_with_a_fake_compiler(machine, small_build):
    compiler = machine.install(*INF1)
    exports = [[], [], ["--no-static-weights"], ["--no-static-weights", "--force"]]
    said = [machine.export(small_build, *arguments).output for arguments in exports]
    assert ["holds this build already" in output for output in said] == [False, True, False, False]
    assert len(compiler.flags) == 3


@pytest.mark.parametrize("sizes", ["", "0", "1,,2", "1,1", "-1", "many"])
def test_batch_sizes_are_different_whole_numbers(sizes):
    done = CliRunner().invoke(main, ["export", "neuron", "--batch-sizes", sizes])
    assert done.exit_code == 2
    assert "is not a list of different whole numbers from 1" in done.output


def on_this_machine(folder: Path, *arguments):
    """The command in a process of its own, in which loading TensorFlow ends in an error."""
    (folder / "tensorflow.py").write_text("raise RuntimeError('TensorFlow was loaded')\n")
    environment = {**os.environ, "PYTHONPATH": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "visionserve.cli", "export", "neuron", *arguments]
    return run(command, cwd=folder, env=environment)


MISSING = {
    "no compiler": (None, "neither is installed"),
    "PyPI's placeholder": (("tensorflow-neuronx", "1.0", None), "tensorflow-neuronx is 1.0, a placeholder or too old"),
    "TensorFlow 1": (("tensorflow-neuron", "1.15.5.2.8.9.0", "neuron-cc"), "a placeholder or too old"),
    "no neuron-cc": (("tensorflow-neuron", "2.10.1.2.11.4.0", None), "tensorflow-neuron has no neuron-cc beside it"),
    "no device": (("tensorflow-neuronx", "2.10.1.2.1.0", "neuronx-cc"), "this machine has no Neuron device"),
}
COMMANDS = {
    "no compiler": "run pip install -r requirements/neuron.txt or pip install -r requirements/neuronx.txt, or on ",
    "PyPI's placeholder": "PIP_EXTRA_INDEX_URL, run pip install -r requirements/neuronx.txt, or on AWS's ",
    "TensorFlow 1": "PIP_EXTRA_INDEX_URL, run pip install -r requirements/neuron.txt, or on AWS's ",
    "no neuron-cc": "PIP_EXTRA_INDEX_URL, run pip install -r requirements/neuron.txt, or on AWS's ",
    "no device": "an inf2 or trn1 instance, and if it is one, run sudo apt-get install aws-neuronx-dkms",
}


@pytest.mark.parametrize("missing", MISSING)
def test_what_the_machine_lacks_is_one_sentence_with_its_command(tmp_path, missing):
    installed, sentence = MISSING[missing]
    if installed is not None:
        install(tmp_path, *installed)
    before = sorted(tmp_path.rglob("*"))
    done = on_this_machine(tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert sentence in done.stderr
    assert COMMANDS[missing] in done.stderr
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "tensorflow.py"])


@pytest.mark.parametrize("name", ["neuron", "neuronx"])
def test_the_requirements_are_pinned_and_name_no_index(name):
    text = (REPOSITORY / "requirements" / f"{name}.txt").read_text()
    packages = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert {f"tensorflow-{name}", "click", "numpy"} <= {package.partition("==")[0] for package in packages}
    assert all("==" in package for package in packages)
    assert "://" not in text


def test_help_has_an_example_and_loads_no_tensorflow(tmp_path):
    done = on_this_machine(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "visionserve export neuron --batch-sizes 1,4" in done.stdout
