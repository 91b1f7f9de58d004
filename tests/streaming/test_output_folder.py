from pathlib import Path

import pytest

from visionserve.errors import UsageError
from visionserve.streaming.output_folder import OutputFolder


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff"])
def test_a_job_file_that_tells_no_job_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "_job.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"_job\.json, in the folder of --output, does not tell the job") as error:
        OutputFolder("--output", tmp_path).take(resume=True)
    assert str(tmp_path) in str(error.value)
