from pathlib import Path

import pytest

from visionserve.errors import ModelError
from visionserve.models.builds.cpu import saved_model
from visionserve.models.builds.cpu.compatibility import check_loadable_by_old_tensorflow, operations
from visionserve.models.builds.cpu.export import export_cpu
from visionserve.models.builds.graph import nodes_of, read_saved_model
from visionserve.models.builds.pictures import sample_pixels

SAMPLE = Path(__file__).parents[2] / "sample.json"


def test_the_real_export_holds_nothing_that_tensorflow_1_15_and_2_3_do_not_know(model):
    check_loadable_by_old_tensorflow(model / "1")
    used = {node.op for node in nodes_of(read_saved_model(model / "1"))}
    assert {"Conv2D", "DecodeJpeg", "DecodePng", "ExtractJpegShape", "StatelessWhile", "SelectV2"} <= used


@pytest.mark.parametrize(("version", "count"), [("1.15", 1393), ("2.3", 1505)])
def test_the_tables_are_those_of_the_real_tensorflows(version, count):
    table = operations(version)
    assert len(table) == count
    assert table["Conv2D"] == [
        "T",
        "strides",
        "use_cudnn_on_gpu",
        "padding",
        "explicit_paddings",
        "data_format",
        "dilations",
    ]
    # What came with 2.3 or between the two, and what came later.
    assert ("allowed_devices" in table["VarHandleOp"]) == (version == "2.3")
    assert ("MatrixDiagV3" in table) == (version == "2.3")
    assert "ApproxTopK" not in table


def saved(folder, module, function):
    import tensorflow

    signature = [tensorflow.TensorSpec([None, 4], name="input")]
    tensorflow.saved_model.save(
        module, str(folder), signatures=tensorflow.function(function, input_signature=signature)
    )


@pytest.mark.slow
def test_what_later_tensorflows_write_for_a_variable_is_refused_by_operation_and_attribute(tmp_path):
    import tensorflow

    module = tensorflow.Module()
    module.variable = tensorflow.Variable([1.0, 2.0, 3.0, 4.0])
    saved(tmp_path, module, lambda input: {"output": input * module.variable})
    with pytest.raises(ModelError, match=r"TensorFlow 1\.15, which has no .*") as refusal:
        check_loadable_by_old_tensorflow(tmp_path)
    assert "no attribute debug_name of VarHandleOp" in str(refusal.value)
    assert "no operation DisableCopyOnRead" in str(refusal.value)


@pytest.mark.slow
def test_an_operation_inside_a_function_inside_a_loop_is_found(tmp_path):
    import tensorflow

    def diagonals(input):
        return {"output": tensorflow.map_fn(tensorflow.linalg.diag, input)}

    saved(tmp_path, tensorflow.Module(), diagonals)
    with pytest.raises(ModelError, match=r"TensorFlow 1\.15, which has no operation MatrixDiagV3, so it was discarded"):
        check_loadable_by_old_tensorflow(tmp_path)


def test_an_export_with_an_operation_of_later_tensorflows_is_discarded(weights, tmp_path, monkeypatch):
    def decoded_by_what_is_new(image_bytes):
        import tensorflow

        values, _ = tensorflow.math.approx_max_k(tensorflow.zeros([tensorflow.size(image_bytes), 8]), 4)
        return tensorflow.zeros([tensorflow.shape(values)[0], 224, 224, 3], tensorflow.uint8)

    monkeypatch.setattr(saved_model, "decode_images", decoded_by_what_is_new)
    with pytest.raises(ModelError, match="has no operation ApproxTopK, so it was discarded"):
        export_cpu(weights, tmp_path / "resnet50" / "1", sample_pixels(SAMPLE))
    assert list((tmp_path / "resnet50").iterdir()) == []
