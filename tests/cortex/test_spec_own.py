import subprocess
from pathlib import Path

import pytest

from visionserve.cortex.local_support import local_notes
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.spec.file import load_specs
from visionserve.vision.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
MODEL_PATHS = {
    "cortex_cpu.yaml": "models/resnet50",
    "cortex_gpu.yaml": "models/resnet50_gpu",
    "cortex_accelerator.yaml": "models/resnet50_neuron",
}


def own(name: str) -> ApiSpec:
    [spec] = load_specs(ROOT / name)
    return spec


@pytest.mark.parametrize("name", MODEL_PATHS)
def test_each_spec_of_this_project_is_valid_and_all_of_it_counts_here(name: str) -> None:
    spec = own(name)
    assert (spec.name, spec.kind) == ("image-classifier-resnet50", "RealtimeAPI")
    assert (spec.predictor.type, spec.predictor.path) == ("tensorflow", "predictor.py")
    assert spec.predictor.model_path == MODEL_PATHS[name]
    assert local_notes(spec) == []


def test_the_specs_differ_only_in_what_their_hardware_needs() -> None:
    hardware = {
        "predictor": {"model_path", "processes_per_replica", "threads_per_process", "server_side_batching"},
        "compute": True,
        "autoscaling": {"max_replica_concurrency", "target_replica_concurrency"},
        "file": True,
        "explicit": True,
    }
    cpu, *others = [own(name).model_dump(exclude=hardware) for name in MODEL_PATHS]
    for other in others:
        assert other == cpu


def test_each_spec_asks_for_its_own_hardware() -> None:
    devices = {name: (own(name).compute.gpu, own(name).compute.inf) for name in MODEL_PATHS}
    assert devices == {"cortex_cpu.yaml": (0, 0), "cortex_gpu.yaml": (1, 0), "cortex_accelerator.yaml": (0, 1)}


@pytest.mark.parametrize("name", MODEL_PATHS)
def test_the_predictor_knows_every_setting_of_the_specs(name: str) -> None:
    settings = read_settings(own(name).predictor.config)
    assert (settings.input_shape, settings.input_key, settings.output_key) == ((224, 224), "input", "output")
    assert (ROOT / settings.classes).is_file()


def test_cortex_uploads_what_the_predictor_needs_and_nothing_else(tmp_path: Path) -> None:
    needed = {"predictor.py", "visionserve/__init__.py", "visionserve/vision/imagenet_classes.json"}
    left = {
        "models/resnet50/1/saved_model.pb",
        "tests/vision/test_x.py",
        "benchmarks/b.py",
        "docs/d.md",
        "notebooks/n.ipynb",
    }
    left |= {
        "deploy/Dockerfile",
        "scripts/demo",
        "README.md",
        "sample.json",
        "visionserve/cortex/cli.py",
        "visionserve/cli.py",
    }
    # Cortex sends the spec that is deployed by itself (cli/cmd/deploy.go), and others would change the project.
    left |= {"cortex_cpu.yaml", "cortex_cpu_s3.yaml", "requirements/neuron.txt"}
    left |= {"visionserve.egg-info/PKG-INFO", "visionserve/models/weights.py", "visionserve/bench/load.py"}
    for name in needed | left:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    # Cortex reads the file as git reads a .gitignore.
    ignore = (ROOT / ".cortexignore").read_text()
    (tmp_path / ".gitignore").write_text(ignore)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "ls-files", "--others", "--exclude-per-directory=.gitignore"]
    listed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    assert set(listed) - {".gitignore"} == needed
