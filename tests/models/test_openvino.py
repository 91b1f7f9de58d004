import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import ovmsclient
import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY, run
from tests.inference.model_servers import model_server
from tests.photos import crops, encoded
from visionserve.cli import main
from visionserve.cores import available_cores
from visionserve.inference.engines import load_engine
from visionserve.inference.model_folder import find_version
from visionserve.inference.signature_key import DEFAULT_SIGNATURE
from visionserve.models.builds.agreement import compare
from visionserve.models.builds.manifest import read_manifest
from visionserve.models.builds.pictures import folder_pictures

CALIBRATION, EVALUATION = 16, 50


def export(*arguments, before=""):
    code = f"{before}\nfrom visionserve.cli import main\nmain(prog_name='visionserve')"
    return run([sys.executable, "-c", code, "export", "openvino", *map(str, arguments)])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folders of different photographs: `calibration`, `evaluation`, and `black` with one black picture."""
    folder = tmp_path_factory.mktemp("photos")
    squares = crops(EVALUATION + CALIBRATION)
    for name, pictures in {
        "evaluation": squares[:EVALUATION],
        "calibration": squares[EVALUATION:],
        "black": [np.zeros((224, 224, 3), np.uint8)],
    }.items():
        (folder / name).mkdir()
        for number, picture in enumerate(pictures):
            (folder / name / f"{number:02}.png").write_bytes(encoded(picture))
    return folder


@pytest.fixture(scope="module")
def fp16(model, photos, tmp_path_factory):
    """The version folder and what the command said."""
    folder = tmp_path_factory.mktemp("fp16") / "resnet50_openvino" / "1"
    done = export("--output", folder, "--evaluation", photos / "calibration")
    assert done.returncode == 0, done.stderr
    yield folder, done
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def int8(model, photos, tmp_path_factory):
    """The version folder and what the command said."""
    folder = tmp_path_factory.mktemp("int8") / "resnet50_openvino_int8" / "1"
    folders = ("--calibration", photos / "calibration", "--evaluation", photos / "evaluation")
    done = export("--output", folder, "--int8", *folders)
    assert done.returncode == 0, done.stderr
    yield folder, done
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pictures(photos):
    return folder_pictures(photos / "evaluation")


def answers(folder, pictures):
    engine = load_engine("openvino", folder, DEFAULT_SIGNATURE, available_cores())
    batches = (pictures[start : start + 10] for start in range(0, len(pictures), 10))
    return np.concatenate([engine.infer({"input": batch})["output"] for batch in batches])


@pytest.fixture(scope="module")
def fp32_answers(model, pictures):
    return answers(find_version(model)[1], pictures)


@pytest.fixture(scope="module")
def int8_answers(int8, pictures):
    return answers(int8[0], pictures)


@pytest.mark.slow
def test_weights_of_fp16_answer_as_fp32_does_on_fifty_photographs(fp16, pictures, fp32_answers):
    # The CPU build answers within 1e-4 of Keras on these photographs: test_export.
    given = answers(fp16[0], pictures)
    assert len(given) == EVALUATION
    assert np.abs(given - fp32_answers).max() <= 5e-3 - 1e-4
    assert (given.argmax(axis=1) == fp32_answers.argmax(axis=1)).all()
    assert len(set(given.argmax(axis=1))) > 10


@pytest.mark.slow
def test_the_build_is_half_as_large_and_a_drop_in_replacement(fp16, model):
    folder, _ = fp16
    assert sorted(path.name for path in folder.iterdir()) == ["model.bin", "model.json", "model.xml"]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 52_500_000
    cpu = load_engine("openvino", find_version(model)[1], DEFAULT_SIGNATURE, 1)
    assert load_engine("openvino", folder, DEFAULT_SIGNATURE, 1).signature == cpu.signature


@pytest.mark.slow
def test_the_command_tells_speed_beside_fp32_and_agreement(fp16, int8):
    for count, (_, done) in {CALIBRATION: fp16, EVALUATION: int8}.items():
        assert done.stderr == ""
        _, wrote, agreement, one, eight = done.stdout.splitlines()
        assert wrote.startswith("wrote ")
        assert agreement.startswith(f"agreement with fp32 on {count} pictures: top-1 ")
        assert (one[:8], eight[:8]) == ("batch 1,", "batch 8,")
        assert f"{available_cores()} threads: " in one
        assert " times fp32's " in eight


@pytest.mark.slow
def test_model_json_records_settings_and_the_agreement_that_the_engine_shows(int8, int8_answers, fp32_answers):
    manifest = read_manifest(int8[0])
    assert manifest.target == "openvino"
    assert manifest.describes(int8[0])
    wanted = {"precision": "int8", "overflow_fix": "first-layer", "calibration_pictures": CALIBRATION}
    assert wanted.items() <= manifest.settings.items()
    assert manifest.versions.keys() == {"visionserve", "openvino", "nncf", "python"}
    measured = compare(int8_answers, fp32_answers)
    assert measured.top1 >= 0.9
    assert manifest.agreement.model_dump() == pytest.approx(measured.model_dump(), abs=1e-4)
    assert (manifest.classes[285], [signature.name for signature in manifest.signatures]) == (
        "Egyptian_cat",
        ["serving_default"],
    )


@pytest.mark.slow
def test_convolutions_of_int8_are_executed_in_8_bits_although_the_rest_is_fp32(int8):
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    runtime = openvino.Core().compile_model(int8[0] / "model.xml", "CPU", options).get_runtime_model()
    layers = [operation.get_rt_info() for operation in runtime.get_ops()]
    precisions = Counter(
        layer["runtimePrecision"].astype(str) for layer in layers if layer["layerType"].astype(str) == "Convolution"
    )
    assert precisions["u8"] + precisions["i8"] == sum(precisions.values()) == 53


@pytest.mark.slow
def test_int8_agrees_with_fp32_on_a_cpu_without_vnni_too(int8, photos, int8_answers, fp32_answers, tmp_path):
    # oneDNN takes the instructions of an older CPU where it is told to. With weights of 8 bits sums saturate there.
    code = (
        "import sys, numpy; from pathlib import Path; from tests.models.test_openvino import *\n"
        "numpy.save(sys.argv[3], answers(Path(sys.argv[1]), folder_pictures(Path(sys.argv[2]))))"
    )
    file = tmp_path / "answers.npy"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = run([sys.executable, "-c", code, *map(str, (int8[0], photos / "evaluation", file))], env=environment)
    assert done.returncode == 0, done.stderr
    there = np.load(file)
    assert compare(there, fp32_answers).top1 >= 0.9
    differences = [np.abs(given - fp32_answers).max(axis=1).mean() for given in (there, int8_answers)]
    assert differences[0] <= 1.3 * differences[1]


@pytest.mark.slow
def test_the_model_server_serves_it(int8, pictures, int8_answers):
    with model_server("--model", f"m={int8[0].parent}", "--rest-port", 0) as server:
        assert server.line == f"serving m with openvino on {server.grpc}\n"
        given = ovmsclient.make_grpc_client(server.grpc).predict({"input": pictures[:4]}, "m", timeout=60)
    np.testing.assert_allclose(given, int8_answers[:4], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_build_that_does_not_agree_is_refused_and_the_old_one_stays(fp16, photos, tmp_path):
    old = shutil.copytree(fp16[0], tmp_path / "models" / "1")
    # Ranges learned from a black picture fit no other.
    folders = ("--calibration", photos / "black", "--evaluation", photos / "calibration")
    done = export("--output", old, "--int8", *folders)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"of {CALIBRATION} pictures, not on 90.0%, so it was discarded" in done.stderr
    assert read_manifest(old).settings["precision"] == "fp16 weights"
    assert read_manifest(old).describes(old)
    assert [path.name for path in old.parent.iterdir()] == ["1"]


@pytest.mark.slow
def test_the_same_build_is_not_made_again(fp16, photos):
    folder, _ = fp16
    before = (folder / "model.xml").stat().st_mtime_ns
    done = export("--output", folder, "--evaluation", photos / "calibration")
    assert done.stdout == f"{folder} holds this build already; --force exports it again\n"
    assert (folder / "model.xml").stat().st_mtime_ns == before


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(model, photos, tmp_path):
    command = [sys.executable, "-m", "visionserve.cli", "export", "openvino", "--int8", "--calibration"]
    command += [str(photos / "evaluation"), "--output", str(tmp_path / "models" / "1")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("quantizing ")
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 130
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--int8"], "--int8 needs --calibration FOLDER"),
        (["--calibration", "."], "--calibration belongs to --int8"),
        (["--overflow-fix", "none"], "--overflow-fix belongs to --int8"),
        (["--int8", "--overflow-fix", "some"], "'some' is not one of"),
        (["--min-agreement", "1.01"], "1.01 is not in the range"),
        (["--int8", "--calibration", "none"], "'none' does not exist"),
        (["--int8", "--calibration", "empty"], "empty holds no images"),
        (["--int8", "--calibration", "broken"], "broken/b.png is not an image"),
        (["--evaluation", "broken"], "broken/b.png is not an image"),
        (["--sample", "none.json"], "none.json cannot be read"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "broken"):
        Path(folder).mkdir()
    Path("broken/a.png").write_bytes(encoded(crops(1)[0]))
    Path("broken/b.png").write_bytes(b"no picture")
    answer = CliRunner().invoke(main, ["export", "openvino", *arguments])
    assert answer.exit_code == 2
    assert sentence in answer.output
    assert not Path("models").exists()


def test_calibration_pictures_are_spread_over_a_folder_that_is_sorted_by_class(tmp_path):
    for shade in range(10):
        picture = np.full((224, 224, 3), shade, np.uint8)
        (tmp_path / f"{shade}.png").write_bytes(encoded(picture))
    assert folder_pictures(tmp_path, 4)[:, 0, 0, 0].tolist() == [0, 2, 5, 7]
    assert folder_pictures(tmp_path, 20)[:, 0, 0, 0].tolist() == list(range(10))


def test_without_a_cpu_build_it_says_how_to_make_one(tmp_path):
    answer = CliRunner().invoke(main, ["export", "openvino", "--model", str(tmp_path), "--output", str(tmp_path / "1")])
    assert (answer.exit_code, answer.output.count("\n")) == (1, 1)
    assert "run visionserve export cpu" in answer.output


@pytest.mark.slow
@pytest.mark.parametrize(("package", "extra"), [("openvino", "openvino"), ("nncf", "int8")])
def test_a_machine_without_a_package_is_told_what_installs_it(photos, tmp_path, package, extra):
    # Both are installed here, so that the import is blocked.
    output = tmp_path / "models" / "1"
    blocked = f"import sys; sys.modules['{package}'] = None"
    done = export("--int8", "--calibration", photos / "calibration", "--output", output, before=blocked)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert f"run scripts/setup {extra} in visionserve's folder" in done.stderr
    assert not output.parent.exists()


@pytest.mark.slow
def test_nothing_is_reported_to_the_makers_of_openvino_and_nncf(photos, tmp_path, monkeypatch):
    # Their telemetry leaves the number that it knows a user by in their home.
    code = (
        "from visionserve.models.builds.openvino.quantization import import_nncf; import_nncf()\n"
        "from nncf.telemetry import telemetry; assert type(telemetry).__name__ != 'NNCFTelemetry'"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = run([sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_has_an_example_and_is_light():
    check = (
        "import atexit, sys\n"
        "atexit.register(lambda: print({'openvino', 'nncf', 'tensorflow', 'numpy'} & set(sys.modules) or 'light'))"
    )
    done = export("--help", before=check)
    assert "visionserve export openvino --int8 --calibration" in done.stdout
    assert done.stdout.endswith("light\n")
