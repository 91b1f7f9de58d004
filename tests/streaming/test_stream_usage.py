"""What is wrong is told in one sentence before Java is started."""

import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, free_port, run
from tests.streaming.streams import stream

HERE = sys.executable


def test_help_tells_the_options_and_examples() -> None:
    done = stream(HERE, "--help")
    assert done.returncode == 0
    assert "--ifReverseInputChannels" in done.stdout
    assert "scripts/stream --imageFolder photos -p 2" in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--format", "parquet"], "--format parquet needs --output"),
        (["--format", "text", "--output", "rows"], "--format text is for the terminal"),
        (["--resume"], "--resume needs --output"),
        (["--output", "rows", "--broken", "rows"], "--output and --broken need two folders."),
        (["--timeline", "line.jpg"], "end its name in .png"),
        (["--inputShape", "1,224,224"], "--inputShape 1,224,224 is neither"),
        (["--meanValues", "1,b,3"], "--meanValues 1,b,3 is not a list of numbers"),
        (["--modelType", "alexnet"], "--modelType alexnet is not one of resnet_v1_50"),
        (["--checkpointInterval", "0s"], "0s is no duration of 10ms or more, such as 10s"),
        (["--checkpointInterval", "0.1ms"], "0.1ms is no duration of 10ms or more, such as 10s"),
        (["--checkpointInterval", "often"], "often is no duration of 10ms or more, such as 10s"),
        (["-p", "0"], "0 is not in the range x>=1"),
        (["-m", "host:port"], "-m host:port is no address: give HOST:PORT"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: list[str], sentence: str) -> None:
    done = stream(HERE, "--imageFolder", tmp_path, *options)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.jpg").write_text("no image either")
    done = stream(HERE, "--imageFolder", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: --imageFolder {tmp_path} holds no image: none of its files ends in .jpg, ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("more", [[], ["--watch"]])
def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, more: list[str]) -> None:
    done = stream(HERE, "--imageFolder", tmp_path / "none", *more)
    assert done.returncode == 2
    assert done.stderr == f"Error: --imageFolder {tmp_path / 'none'} does not exist: name a folder with images.\n"


def test_a_missing_model_is_refused(photos: Path) -> None:
    done = stream(HERE, "--imageFolder", photos, "--checkpointPath", photos / "model")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: There is no model folder {photos / 'model'}: make one with visionserve export cpu, or name another.\n"
    )


def test_without_pyflink_the_script_that_installs_it_is_named(photos: Path, model: Path) -> None:
    done = stream(HERE, "--imageFolder", photos)
    assert done.returncode == 3
    assert done.stderr == "Error: apache-flink 2.3 is not installed here: run scripts/stream, which sets it up.\n"


@pytest.mark.slow
class TestWithFlink:
    def test_a_missing_java_is_told_with_its_package(self, stream_environment: Path, photos: Path, model: Path) -> None:
        environment = {"PATH": str(photos), "JAVA_HOME": ""}
        done = stream(stream_environment, "--imageFolder", photos, env=environment)
        assert done.returncode == 3
        assert done.stderr.startswith("Error: Flink needs Java 11 or newer, and there is no java on the PATH: ")
        assert "openjdk-17-jre-headless" in done.stderr

    def test_an_unreachable_cluster_is_refused(self, stream_environment: Path, photos: Path, model: Path) -> None:
        address = f"127.0.0.1:{free_port()}"
        done = stream(stream_environment, "--imageFolder", photos, "-m", address)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: No Flink cluster answers at http://{address} (")
        assert len(done.stderr.splitlines()) == 1

    def test_an_output_folder_that_holds_something_is_refused(
        self, stream_environment: Path, photos: Path, model: Path
    ) -> None:
        done = stream(stream_environment, "--imageFolder", photos, "--output", photos)
        assert done.returncode == 2
        assert done.stderr.startswith(f"Error: --output {photos} is not empty: name another folder, or add --resume ")

    def test_options_that_contradict_the_model_are_refused(
        self, stream_environment: Path, photos: Path, model: Path
    ) -> None:
        done = stream(stream_environment, "--imageFolder", photos, "--meanValues", "127.5,127.5,127.5")
        assert done.returncode == 2
        assert "--meanValues 127.5,127.5,127.5 contradicts" in done.stderr

    def test_the_script_answers_from_any_folder(self, stream_environment: Path, tmp_path: Path) -> None:
        done = run([str(REPOSITORY / "scripts" / "stream"), "--imageFolder", "none"], cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr == "Error: --imageFolder none does not exist: name a folder with images.\n"
