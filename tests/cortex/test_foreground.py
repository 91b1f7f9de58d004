import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from visionserve.cortex import foreground
from visionserve.cortex.foreground import Foreground
from visionserve.cortex.store import Store
from visionserve.errors import DeploymentError


@pytest.fixture
def own_signals() -> Iterator[None]:
    """A foreground that ends ignores signals from then on, as its command ends with it."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("line", "shown"), [("2026 a\n", "{name}: 2026 a\n"), ('{"a": 1}\n', None)])
def test_lines_of_several_apis_are_told_apart(tmp_path, monkeypatch, line, shown):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    names, written = ["one", "two"], []
    for name in names:
        folder = Store().folder(name)
        folder.mkdir(parents=True)
        (folder / "api.log").write_text("earlier\n")
    foreground = Foreground(names, "local", print)
    for name in names:
        log: Path = Store().folder(name) / "api.log"
        with log.open("a") as file:
            file.write(line)
    # Neither runs: both are said to have ended, after their last lines.
    with pytest.raises(DeploymentError, match=r"one was ended by something else .* two was ended"):
        foreground.show(written.append)
    if shown is not None:
        assert written == [shown.format(name=name) for name in names]
    else:
        assert [json.loads(text) for text in written] == [{"api": name, "a": 1} for name in names]


def test_on_ray_the_lines_of_the_cluster_are_shown_and_all_is_deleted_however_it_ends(monkeypatch, own_signals):
    def log_lines(name: str, environment: str, follow: bool) -> Iterator[str]:
        yield f"{name} on {environment}\n"
        raise DeploymentError("No node of the Ray cluster hands out its logs.")

    def delete(name: str, environment: str) -> None:
        deleted.append((name, environment))
        if name == "one":
            raise DeploymentError("There is no API named one.")

    written: list[str] = []
    warned: list[str] = []
    deleted: list[tuple[str, str]] = []
    monkeypatch.setattr(foreground, "log_lines", log_lines)
    monkeypatch.setattr(foreground, "delete", delete)
    with pytest.raises(DeploymentError, match="No node"), Foreground(["one", "two"], "ray", warned.append) as stay:
        stay.show(written.append)
    assert written == ["one on ray\n"]
    assert deleted == [("one", "ray"), ("two", "ray")]
    assert warned == ["Error: There is no API named one."]
