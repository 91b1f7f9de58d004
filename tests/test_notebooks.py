"""The notebooks as a reader runs them, each in a kernel of its own, and the copies of them in the docs."""

import base64
import re
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
MODELS, GPU = "Generating Resnet50 Models", "Generating GPU Resnet50 Model"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    """What the cells printed or showed as text."""
    found = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") + "\n" for output in found)


def pictures(notebook):
    found = [output for cell in code_cells(notebook) for output in cell.outputs if "data" in output]
    encoded = [output["data"]["image/jpeg"] for output in found if "image/jpeg" in output["data"]]
    return [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) for data in encoded]


@pytest.fixture
def executed(model, monkeypatch):
    """A notebook's name -> the notebook with what a new kernel made of it; the real CPU build is there."""
    assert model.is_relative_to(REPOSITORY / "models")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def execute(name):
        notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
        resources = {"metadata": {"path": str(REPOSITORY / "notebooks")}}
        return NotebookClient(notebook, timeout=300, startup_timeout=300, resources=resources).execute()

    return execute


def test_the_cpu_s_notebook_shows_photographs_as_keras_labels_them_and_what_inferentia_lacks_here(executed):
    notebook = executed(MODELS)
    said = outputs(notebook)
    assert "25,636,712 parameters" in said
    assert "6 pictures: top-1 100.0% the same, top-5 100.0%" in said
    assert re.search(r"chelsea.png +Egyptian_cat 0\.7\d, tiger_cat 0\.1\d, tabby 0\.1\d", said)
    assert re.search(r"coffee.png +espresso 0\.9\d", said)
    [figure] = pictures(notebook)
    assert min(figure.shape[:2]) > 500
    assert "compiling for Neuron needs tensorflow-neuron" in said
    assert "run pip install -r requirements/neuron.txt" in said
    assert not (REPOSITORY / "models" / "resnet50_neuron" / "1").exists()


def test_the_gpu_s_notebook_shows_what_goes_in_and_what_the_gpu_s_lacks_here(executed):
    notebook = executed(GPU)
    said = outputs(notebook)
    assert "name='input' dtype='uint8' shape=[None, 224, 224, 3]" in said
    assert "'Conv2D': 53" in said
    assert "[1, 2, 4, 8, 16, 32]" in said
    assert "converting for TensorRT needs the TF-TRT of TensorFlow 2.17" in said
    assert "pip install -r requirements/tensorrt.txt" in said
    assert len(pictures(notebook)) == 1
    assert not (REPOSITORY / "models" / "resnet50_gpu" / "1").exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_stay_out_of_git_and_the_docs_show_these_cells(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_cells(notebook))
    rendered = (REPOSITORY / "docs" / "notebooks" / f"{path.stem}.md").read_text(encoding="utf-8")
    assert re.findall(r"```python\n(.*?)\n```", rendered, re.DOTALL) == [cell.source for cell in code_cells(notebook)]
    assert all(cell.source.replace(".ipynb)", ".md)") in rendered for cell in notebook.cells)
    for target in re.findall(r"\]\((.*?\.(?:jpg|ipynb|md))\)", rendered):
        assert (REPOSITORY / "docs" / "notebooks" / target.replace("%20", " ")).is_file()
    assert str(Path.home()) not in rendered


def test_both_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == [GPU, MODELS]
