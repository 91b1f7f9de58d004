"""What hypothesis makes up within a format's rules; the same examples every time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.fuzz.targets import event
from visionserve.cortex.spec.api import ApiFields, ApiSpec, section_of
from visionserve.cortex.spec.file import load_specs
from visionserve.errors import UsageError
from visionserve.inference.engine import Signature, TensorSpec
from visionserve.inference.predict_json import read_predict_request

ALWAYS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
TEXTS = st.sampled_from(
    ["python", "tensorflow", "predictor.py", "200m", "1Gi", "20ms", "25%", "s3://b/p", "/", "a", "1e9"]
)
VALUES = TEXTS | st.integers(-1, 2000) | st.floats() | JSON


@ALWAYS
@given(data=st.data(), dtype=st.sampled_from([np.uint8, np.float32, np.int64]))
def test_an_array_is_read_from_json_as_it_was_written(data: st.DataObject, dtype: type) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=4, max_side=6))
    elements = {"allow_nan": False, "allow_infinity": False} if dtype is np.float32 else {}
    array = data.draw(arrays.arrays(dtype, shape, elements=arrays.from_dtype(np.dtype(dtype), **elements)))
    # Long lists are read in another way than short ones, and spaces make them long.
    space = data.draw(st.sampled_from(["", " ", " \n\t" * 50, " " * 5000]))
    separators = f",{space}", f":{space}"
    body = json.dumps({"instances": array.tolist()}, separators=separators).encode()
    spec = TensorSpec(array.dtype, (-1,) * array.ndim)
    read = read_predict_request(body, lambda _: Signature({"x": spec}, {})).inputs["x"]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


@st.composite
def apis(draw: st.DrawFn, path: tuple[str, ...] = ()) -> Any:
    """An API's fields by their names, each with a value that may or may not be one of its."""
    section = section_of(path) or ApiFields
    fields: dict[str, Any] = {}
    for name in section.model_fields:
        if not draw(st.booleans()):
            continue
        fields[name] = draw(apis((*path, name)) if section_of((*path, name)) else VALUES)
    return fields


@pytest.mark.slow
@ALWAYS
@given(fields=apis(), usual=st.booleans())
def test_a_spec_goes_through_json_unchanged_or_is_refused_line_by_line(
    tmp_path: Path, fields: dict[str, Any], usual: bool
) -> None:
    (tmp_path / "predictor.py").touch()
    file = tmp_path / "cortex.yaml"
    if usual:
        fields = {**fields, "name": "a", "kind": "RealtimeAPI", "predictor": {"type": "python", "path": "predictor.py"}}
    file.write_text(yaml.safe_dump([fields], allow_unicode=True))
    try:
        specs = load_specs(file)
    except UsageError as error:
        beginnings = {line[: len(str(file))] for line in str(error).splitlines()}
    else:
        beginnings = {str(file)}
        assert [ApiSpec.model_validate_json(spec.model_dump_json()) for spec in specs] == specs
    assert beginnings == {str(file)}


@ALWAYS
@given(content=JSON, data=JSON, header=st.integers(0, 4))
def test_any_json_is_an_event_or_refused(content: Any, data: Any, header: int) -> None:
    envelope = {"specversion": "1.0", "id": "7", "type": "s3", "source": "/ceph", "data": data}
    record = {"eventName": data, "s3": {"bucket": {"name": "photos"}, "object": {"key": "a", "size": data}}}
    for body in (content, envelope, {**envelope, "data": {"Records": content}}, {"Records": [record]}, record):
        event(bytes([header]) + json.dumps(body).encode())
