from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.conftest import REPOSITORY
from tests.cortex.manifests.exporting import IMAGE, Exported, every_field, export, write_spec
from tests.cortex.manifests.published import KServeModels, kubernetes_takes, pod

KIND = "V1beta1InferenceService"


@pytest.fixture
def cats(tmp_path: Path) -> Exported:
    compute = {"cpu": 1.5, "mem": "2Gi"}
    autoscaling = {"min_replicas": 2, "max_replicas": 5, "init_replicas": 3, "target_replica_concurrency": 8}
    autoscaling |= {"max_replica_concurrency": 64, "window": "30s", "downscale_stabilization_period": "1m30s"}
    return export(write_spec(tmp_path, compute=compute, autoscaling=autoscaling), "kserve")


def pod_spec(exported: Exported) -> dict[str, Any]:
    return {name: exported.predictor[name] for name in ("containers", "volumes")}


def test_the_predictor_is_this_project_s_own_command_on_the_mounted_spec(cats: Exported) -> None:
    container = cats.container
    assert container["image"] == IMAGE
    assert container["command"][:3] == ["cortex", "deploy", "/srv/project/cortex.yaml"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/srv/project", "/tmp"}
    [port] = container["ports"]
    assert container["command"][-2:] == ["--port", str(port["containerPort"])]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["containerPort"]}


def test_replicas_and_concurrency_are_scaled_as_the_spec_says(cats: Exported) -> None:
    predictor = cats.predictor
    wanted = {"minReplicas": 2, "maxReplicas": 5, "scaleMetric": "concurrency", "scaleTarget": 8}
    assert {name: predictor[name] for name in wanted} == wanted
    assert predictor["containerConcurrency"] == 64
    knative = "autoscaling.knative.dev/"
    annotations = cats.one("InferenceService")["metadata"]["annotations"]
    assert {name.removeprefix(knative): value for name, value in annotations.items() if knative in name} == {
        "initial-scale": "3",
        "window": "30s",
        "scale-down-delay": "90s",
        "target-utilization-percentage": "100",
    }


def test_a_target_that_is_no_whole_number_is_kept(tmp_path: Path) -> None:
    exported = export(write_spec(tmp_path, autoscaling={"target_replica_concurrency": 6.5}), "kserve")
    assert "scaleTarget" not in exported.predictor
    annotations = exported.one("InferenceService")["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/target"] == "6.5"


@pytest.mark.parametrize(
    ("compute", "requests", "limits"),
    [
        ({"cpu": 1.5, "mem": "2G"}, {"cpu": "1500m", "memory": "2G"}, {"cpu": "1500m", "memory": "2G"}),
        # Without a limit KServe writes 1 core; with less than one no model would be compiled in time.
        ({"cpu": "200m"}, {"cpu": "200m"}, {"cpu": "1"}),
        ({"cpu": 2, "gpu": 1}, {"cpu": "2", "nvidia.com/gpu": "1"}, {"cpu": "2", "nvidia.com/gpu": "1"}),
        ({"cpu": 2, "inf": 2}, {"cpu": "2", "aws.amazon.com/neuron": "2"}, {"cpu": "2", "aws.amazon.com/neuron": "2"}),
    ],
)
def test_compute_becomes_resources(
    tmp_path: Path, compute: dict[str, Any], requests: dict[str, str], limits: dict[str, str]
) -> None:
    exported = export(write_spec(tmp_path, compute=compute), "kserve")
    assert exported.container["resources"] == {"requests": requests, "limits": limits}


def test_what_is_more_than_knative_takes_is_cut_and_said(tmp_path: Path) -> None:
    large = {"max_replica_concurrency": 2000, "window": "2h", "downscale_stabilization_period": "3h"}
    exported = export(write_spec(tmp_path, autoscaling=large), "kserve")
    assert exported.predictor["containerConcurrency"] == 1000
    annotations = exported.one("InferenceService")["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/window"] == "3600s"
    assert annotations["autoscaling.knative.dev/scale-down-delay"] == "3600s"
    for field in large:
        assert [note for note in exported.notes if f"autoscaling.{field} becomes" in note]


def test_access_is_named_and_not_written(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, predictor={"env": {"LEVEL": "3"}})
    options = ["--service-account", "models", "--env-from-secret", "aws", "--env-from-secret", "more", "-n", "vision"]
    exported = export(spec, "kserve", *options)
    assert exported.predictor["serviceAccountName"] == "models"
    assert exported.container["envFrom"] == [{"secretRef": {"name": "aws"}}, {"secretRef": {"name": "more"}}]
    autoscaled = {"name": "VISIONSERVE_AUTOSCALED", "value": "1"}
    assert exported.container["env"] == [{"name": "LEVEL", "value": "3"}, autoscaled]
    assert {document["metadata"]["namespace"] for document in exported.documents} == {"vision"}


def test_a_claim_is_mounted_by_kserve_itself(tmp_path: Path) -> None:
    exported = export(REPOSITORY / "cortex_cpu.yaml", "kserve", "--models-claim", "models")
    assert {"name": "STORAGE_URI", "value": "pvc://models"} in exported.container["env"]
    in_image = export(REPOSITORY / "cortex_cpu.yaml", "kserve", "--models-in-image")
    assert "STORAGE_URI" not in {variable["name"] for variable in in_image.container["env"]}


@pytest.mark.slow
def test_it_fits_the_schemas_that_kserve_and_kubernetes_publish(tmp_path: Path, kserve_models: KServeModels) -> None:
    specs = [(every_field(tmp_path), "--models-in-image")]
    specs += [(REPOSITORY / f"cortex_{name}.yaml", "--models-claim=models") for name in ("cpu", "gpu", "accelerator")]
    for spec, models in specs:
        exported = export(spec, "kserve", models, "--service-account", "models", "--env-from-secret", "aws")
        for document in exported.documents:
            if document["kind"] == "ConfigMap":
                kubernetes_takes(document)
                continue
            assert document["apiVersion"] == "serving.kserve.io/v1beta1"
            assert list(kserve_models.problems(document, KIND)) == []
            predictor = document["spec"]["predictor"]
            kubernetes_takes(pod({name: predictor[name] for name in ("containers", "volumes", "serviceAccountName")}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("scaleTargets", 8, "spec.predictor.scaleTargets is no field of V1beta1PredictorSpec"),
        ("scaleTarget", "8", "spec.predictor.scaleTarget is not of the type int"),
        ("minReplicas", True, "spec.predictor.minReplicas is not of the type int"),
        ("containers", {}, "spec.predictor.containers is not a list"),
    ],
)
def test_what_kserve_does_not_know_would_be_found(
    cats: Exported, kserve_models: KServeModels, field: str, value: object, said: str
) -> None:
    broken = deepcopy(cats.one("InferenceService"))
    broken["spec"]["predictor"][field] = value
    assert said in list(kserve_models.problems(broken, KIND))


@pytest.mark.parametrize(
    ("field", "value"),
    [("imagePull", "Always"), ("ports", 8080), ("command", "cortex"), ("name", None), ("resources", {"limit": {}})],
)
def test_what_kubernetes_does_not_know_would_be_found(cats: Exported, field: str, value: object) -> None:
    spec = deepcopy(pod_spec(cats))
    kubernetes_takes(pod(spec))
    spec["containers"][0][field] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_takes(pod(spec))
