import re

import kubernetes_validate
import pytest
import yaml

from tests.conftest import REPOSITORY
from visionserve.services.function.event import ANSWER_TYPE
from visionserve.services.function.settings import Settings

FOLDER = REPOSITORY / "deploy/knative"
# The fields that knative/func's schema/func_yaml-schema.json has for what is used here.
FUNC = {"specVersion", "name", "runtime", "created", "invoke", "build", "run", "deploy"}
FUNC_PARTS = {
    ("build",): {"builder", "builderImages", "buildpacks", "buildEnvs", "pvcSize", "remoteStorageClass"},
    ("run",): {"volumes", "envs", "startTimeout"},
    ("deploy",): {"healthEndpoints", "options", "annotations", "labels", "namespace", "serviceAccountName"},
    ("deploy", "healthEndpoints"): {"liveness", "readiness"},
    ("deploy", "options"): {"scale", "resources"},
    ("deploy", "options", "scale"): {"min", "max", "metric", "target", "utilization"},
    ("deploy", "options", "resources"): {"requests", "limits"},
    ("deploy", "options", "resources", "requests"): {"cpu", "memory"},
    ("deploy", "options", "resources", "limits"): {"cpu", "memory", "concurrency"},
}
FROM_SECRET = re.compile(r"\{\{ secret:([-\w]+):(\w+) \}\}")
HEALTH = {"liveness": "/health/liveness", "readiness": "/health/readiness"}


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.fixture(scope="module")
def pod():
    """The template of the Knative Service: a Pod, but for two fields of Knative's own."""
    service = read("service.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.knative.dev/v1", "Service")
    spec = service["spec"]["template"]["spec"]
    assert spec.pop("containerConcurrency") > 1
    assert spec.pop("timeoutSeconds") > 0
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "function"}, "spec": spec}


def names(settings):
    return {name.upper() for name in settings.model_fields}


def secret_keys():
    return set(read("secret.yaml")["stringData"])


def test_kubernetes_takes_the_pod_and_the_secret(pod):
    kubernetes_validate.validate(pod, "1.31", strict=True)
    kubernetes_validate.validate(read("secret.yaml"), "1.31", strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_found(pod):
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**pod, "spec": {**pod["spec"], "containerConcurrency": 8}}, "1.31", strict=True)


def test_the_service_sets_what_the_function_reads_and_secrets_from_the_secret(pod):
    [container] = pod["spec"]["containers"]
    assert {variable["name"] for variable in container["env"]} <= names(Settings)
    references = [entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if "valueFrom" in entry]
    assert {reference["name"] for reference in references} == {read("secret.yaml")["metadata"]["name"]}
    assert {reference["key"] for reference in references} == secret_keys() >= {"S3_ACCESS_KEY", "S3_SECRET_KEY"}


def test_the_service_runs_without_privileges_and_asks_for_its_health(pod):
    [container] = pod["spec"]["containers"]
    security = container["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in HEALTH} == HEALTH


def test_func_yaml_has_only_fields_that_func_knows():
    func = read("func.yaml")
    assert set(func) <= FUNC
    for path, fields in FUNC_PARTS.items():
        part = func
        for name in path:
            part = part[name]
        assert set(part) <= fields, path
    assert (func["runtime"], func["invoke"], func["build"]["builder"]) == ("python", "http", "host")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", func["name"])
    assert func["deploy"]["healthEndpoints"] == HEALTH


def test_func_yaml_sets_what_the_function_reads_and_secrets_from_the_secret():
    variables = {entry["name"]: entry["value"] for entry in read("func.yaml")["run"]["envs"]}
    assert set(variables) <= names(Settings)
    found = {name: FROM_SECRET.fullmatch(value) for name, value in variables.items() if "{{" in value}
    assert all(match and match[1] == read("secret.yaml")["metadata"]["name"] for match in found.values())
    assert {match[2] for match in found.values()} == secret_keys() == set(found)


def test_the_trigger_passes_on_what_s3_s_adapters_send_and_not_the_function_s_answers():
    trigger = read("trigger.yaml")
    [condition] = trigger["spec"]["filters"]
    prefix = condition["prefix"]["type"]
    assert all(f"com.amazonaws.{name}".startswith(prefix) for name in ("ObjectCreated:Put", "s3.ObjectCreated:Put"))
    assert not ANSWER_TYPE.startswith(prefix)
    assert trigger["spec"]["subscriber"]["ref"]["name"] == read("service.yaml")["metadata"]["name"]
