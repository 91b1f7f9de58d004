import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from tests.conftest import REPOSITORY
from tests.cortex.manifests.exporting import IMAGE, Exported, every_field, export, write_spec
from tests.cortex.manifests.kuberay import pod_templates, problems
from tests.cortex.manifests.published import kubernetes_takes, pod
from visionserve.cortex.ray_serve.settings import ReplicaSettings
from visionserve.cortex.spec.file import load_specs

# Ray Serve's own models.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")


def service(exported: Exported) -> dict[str, Any]:
    found = exported.one("RayService")
    assert found["apiVersion"] == "ray.io/v1"
    return found


def application(exported: Exported) -> dict[str, Any]:
    [application] = yaml.safe_load(service(exported)["spec"]["serveConfigV2"])["applications"]
    return application


def workers(exported: Exported) -> dict[str, Any]:
    [group] = service(exported)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return group


@pytest.mark.slow
def test_serve_and_kubernetes_take_it_and_its_fields_are_kuberay_s(tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    specs = [(every_field(tmp_path), "--models-in-image")]
    specs += [(REPOSITORY / f"cortex_{name}.yaml", "--models-claim=models") for name in ("cpu", "gpu", "accelerator")]
    for spec, models in specs:
        exported = export(spec, "rayservice", models, "--service-account", "models", "--env-from-secret", "aws")
        for document in exported.documents:
            if document["kind"] == "ConfigMap":
                kubernetes_takes(document)
                continue
            assert list(problems(document["spec"])) == []
            for template in pod_templates(document):
                kubernetes_takes(pod(template))
            ServeDeploySchema.model_validate(yaml.safe_load(document["spec"]["serveConfigV2"]))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["serveConfig"], "", "spec.serveConfig is no field of KubeRay's"),
        (["serveConfigV2"], {}, "spec.serveConfigV2 is not of the type str"),
        (["rayClusterConfig", "workerGroupSpecs"], {}, "spec.rayClusterConfig.workerGroupSpecs is not a list"),
        (["rayClusterConfig", "headGroupSpec", "rayStartParams", "num-cpus"], 0, "num-cpus is not of the type str"),
        (["rayClusterConfig", "headGroupSpec"], {}, "spec.rayClusterConfig.headGroupSpec.template is missing"),
    ],
)
def test_what_kuberay_does_not_know_would_be_found(tmp_path: Path, path: list[str], value: object, said: str) -> None:
    broken = deepcopy(service(export(write_spec(tmp_path), "rayservice"))["spec"])
    assert list(problems(broken)) == []
    holder = broken
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    assert [problem for problem in problems(broken) if said in problem]


@pytest.mark.slow
def test_what_kubernetes_and_serve_do_not_know_would_be_found(tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    exported = export(write_spec(tmp_path), "rayservice")
    config = yaml.safe_load(service(exported)["spec"]["serveConfigV2"])
    config["applications"][0]["runtime_env"]["working_dir"] = "/srv/project"
    with pytest.raises(ValidationError):
        ServeDeploySchema.model_validate(config)
    for template in pod_templates(service(exported)):
        template["containers"][0]["mount"] = []
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_takes(pod(template))


def test_the_application_is_built_of_the_spec_as_cortex_deploy_builds_it(tmp_path: Path) -> None:
    file = every_field(tmp_path)
    options = ["--name", "several-models", "--models-in-image"]
    found = application(export(file, "rayservice", *options))
    module, _, name = found["import_path"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
    spec = ReplicaSettings.model_validate(found["args"]).spec
    [written] = [each for each in load_specs(file) if each.name == "several-models"]
    assert str(spec.project) == "/srv/project"
    assert [model.model_path for model in spec.predictor.models.paths] == [
        "/mnt/models/resnet50",
        "s3://bucket/detector",
    ]
    same = {"name", "networking", "compute", "autoscaling", "update_strategy", "monitoring", "explicit"}
    assert spec.model_dump(include=same) == written.model_dump(include=same)


def test_a_worker_holds_one_replica_and_there_are_as_many_as_the_spec_says(tmp_path: Path) -> None:
    compute = {"cpu": 1.5, "mem": "2G", "inf": 1}
    autoscaling = {"min_replicas": 2, "max_replicas": 5, "init_replicas": 3}
    exported = export(write_spec(tmp_path, compute=compute, autoscaling=autoscaling), "rayservice")
    group = workers(exported)
    assert {name: group[f"{name}eplicas"] for name in ("minR", "r", "maxR")} == {"minR": 2, "r": 3, "maxR": 5}
    [container] = group["template"]["spec"]["containers"]
    assert container["image"] == IMAGE
    wanted = {"cpu": "2", "memory": "3G", "aws.amazon.com/neuroncore": "4"}
    assert container["resources"] == {"requests": wanted, "limits": wanted}
    assert application(exported)["deployments"] == [{"name": "replica", "max_replicas_per_node": 1}]


def test_every_pod_has_the_project_and_the_models(tmp_path: Path) -> None:
    options = ["--models-claim", "models", "--env-from-secret", "aws", "--service-account", "readers"]
    exported = export(REPOSITORY / "cortex_gpu.yaml", "rayservice", *options)
    head, worker = pod_templates(service(exported))
    for template in (head, worker):
        [container] = template["containers"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/srv/project", "/mnt/models"}
        assert container["envFrom"] == [{"secretRef": {"name": "aws"}}]
    # The head's account is the operator's, which may add pods.
    assert (head.get("serviceAccountName"), worker["serviceAccountName"]) == (None, "readers")
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_ray_s_version_is_the_one_that_is_installed_in_the_image(tmp_path: Path) -> None:
    cluster = service(export(write_spec(tmp_path), "rayservice"))["spec"]["rayClusterConfig"]
    pinned = re.search(r"^ray==(\S+)", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert cluster["rayVersion"] == pinned[1]
