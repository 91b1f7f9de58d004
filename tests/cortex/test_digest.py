import os

from tests.projects import ECHO, write_project
from visionserve.cortex.digest import digest_of
from visionserve.cortex.spec.file import load_specs


def test_a_file_whose_name_is_no_utf8_is_a_part_of_the_project_like_any_other(tmp_path):
    (spec,) = load_specs(write_project(tmp_path, ECHO))
    before = digest_of(spec, [], False)
    strange = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(strange, "w") as file:
        file.write("a")
    with_it = digest_of(spec, [], False)
    assert with_it != before
    os.rename(strange, os.path.join(os.fsencode(tmp_path), b"caf\xe8.txt"))
    assert digest_of(spec, [], False) != with_it
