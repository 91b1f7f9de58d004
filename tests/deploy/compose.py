"""What is wrong with compose files, told without starting anything."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft202012Validator

from tests.conftest import run

OUR_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("REST_")}


def normalized(*files: Path, **environment: str) -> dict[str, Any]:
    """The files as podman-compose reads and merges them. Raises ValueError with what it says against them."""
    # It asks podman for its version and for no more than that.
    stand_in = files[0].parent / "podman-that-knows-only-its-version"
    stand_in.write_text("#!/bin/sh\necho podman version 5.0.0\n")
    stand_in.chmod(0o755)
    named = [part for file in files for part in ("-f", str(file))]
    command = [sys.executable, "-m", "podman_compose", "--podman-path", str(stand_in), *named, "config"]
    done = run(command, cwd=files[0].parent, env={**OUR_ENVIRONMENT, **environment})
    if done.returncode:
        raise ValueError(done.stderr)
    return yaml.safe_load(done.stdout)


def problems(settings: set[str], *files: Path, mounts: Mapping[str, str] | None = None) -> list[str]:
    """`settings`: the environment variables that the services read; `mounts`: source -> ro or rw, besides models."""
    schema = Draft202012Validator(get_builtin_schema("vendor.compose-spec"))
    found = [error.message for file in files for error in schema.iter_errors(yaml.safe_load(file.read_text()))]
    document = normalized(*files)
    for name, service in document["services"].items():
        said = _service(service, settings, files[0].parent, document, mounts or {})
        found += [f"{name}: {problem}" for problem in said]
    return found


def _service(
    service: dict[str, Any], settings: set[str], folder: Path, document: dict[str, Any], mounts: Mapping[str, str]
) -> Iterator[str]:
    context = folder / service["build"]["context"]
    if not (context / service["build"]["dockerfile"]).is_file():
        yield f"no Dockerfile {service['build']['dockerfile']}"
    for volume in service.get("volumes", []):
        source, _, mode = f"{volume}:rw".split(":")[:3]
        # visionserve export makes it.
        if source not in mounts and (folder / source).resolve() != (context / "models").resolve():
            yield f"nothing makes {source}"
        if mode != mounts.get(source, "ro"):
            yield f"{source} is mounted to be written to"
    yield from (f"nothing reads {name}" for name in sorted(set(service.get("environment", {})) - settings))
    yield from (f"{port} is open to other machines" for port in service.get("ports", [])
                if not port.startswith("127.0.0.1:"))  # fmt: skip
    yield from (f"no service {name}" for name in service.get("depends_on", {}) if name not in document["services"])
    expected = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    yield from (f"{key} is not {value}" for key, value in expected.items() if service.get(key) != value)
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", service.get("user", "root")):
        yield "runs as root"
    if not service.get("restart"):
        yield "no restart"
    if not {"cpus", "memory"} <= set(service.get("deploy", {}).get("resources", {}).get("limits", {})):
        yield "no limits"
    if not {"test", "interval", "timeout", "retries"} <= set(service.get("healthcheck", {})):
        yield "no health check"
