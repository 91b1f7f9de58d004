import json
import re
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.conftest import run, wait_for
from tests.inference.repositories import add_version, serving
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.version_policy import VersionPolicy


def openvino(name, path):
    return {"name": name, "path": path, "engine": "openvino", "threads": 1}


def null(name, path, **settings):
    return {"name": name, "path": path, **settings}


@pytest.fixture
def numbered(tmp_path):
    """A model folder with versions for the null engine."""

    def make(name, *versions):
        for version in versions:
            add_version(tmp_path / name, version)
        return tmp_path / name

    return make


def test_a_new_version_takes_over_under_load_and_no_request_is_lost(model, tmp_path):
    folder = tmp_path / "resnet50"
    add_version(folder, 1, model)
    clients = 3
    answered, stop = [[] for _ in range(clients)], threading.Event()

    with serving(tmp_path, openvino("resnet50", folder)) as server, ThreadPoolExecutor(clients) as threads:

        def keep_asking(versions):
            while not stop.is_set():
                versions.append(server.version("resnet50"))

        def all_answered(version, times):
            return all(versions.count(version) >= times for versions in answered)

        asking = [threads.submit(keep_asking, versions) for versions in answered]
        try:
            wait_for(lambda: all_answered(1, 3))
            add_version(folder, 2, model)
            wait_for(lambda: all_answered(2, 3) or any(task.done() for task in asking))
        finally:
            stop.set()
        for task, versions in zip(asking, answered, strict=True):
            assert task.exception() is None
            assert versions == sorted(versions)
        server.wait_for_states("resnet50", v1="END", v2="AVAILABLE")
        code, sentence = server.refusal("resnet50", 1)
        assert (code, sentence) == ("NOT_FOUND", "Version 1 of model resnet50 is not served here: ask for 2.")


def test_a_half_copied_version_leaves_the_old_one_serving_and_heals_when_it_is_whole(model, tmp_path):
    folder = tmp_path / "resnet50"
    add_version(folder, 1, model)
    with serving(tmp_path, openvino("resnet50", folder)) as server:
        whole = (model / "1" / "saved_model.pb").read_bytes()
        copy, beside = folder / "2" / "saved_model.pb", tmp_path / "copy"
        copy.parent.mkdir()

        def put(content):
            """At once: a file that stood still while it was being written would be one more that does not load."""
            beside.write_bytes(content)
            beside.rename(copy)

        put(whole[: len(whole) // 2])
        server.wait_for_states("resnet50", v1="AVAILABLE", v2="END")
        assert "OpenVINO cannot load" in server.statuses("resnet50", 2)[2][1]
        assert server.version("resnet50") == 1
        put(whole)
        server.wait_for_states("resnet50", v1="END", v2="AVAILABLE")
        assert server.statuses("resnet50", 2)[2][1] == ""
        assert server.version("resnet50") == 2
        assert server.log().count("version 2 of model resnet50 does not load") == 1


@pytest.mark.slow
def test_a_folder_without_its_graph_is_no_version_yet(numbered, tmp_path):
    folder, other = numbered("a", 1), numbered("b", 1)
    (folder / "2" / "variables").mkdir(parents=True)
    (folder / "notes").mkdir()
    with serving(tmp_path, null("a", folder), null("b", other)) as server:
        looked_again(server, other)
        assert server.states("a") == {1: "AVAILABLE"}
        (folder / "2" / "saved_model.pb").touch()
        server.wait_for_states("a", v1="END", v2="AVAILABLE")


@pytest.mark.slow
def test_a_version_whose_folder_is_removed_is_unloaded_and_comes_back_with_it(numbered, tmp_path):
    folder = numbered("a", 1, 2, 3)
    with serving(tmp_path, null("a", folder, version_policy={"kind": "all"})) as server:
        assert [server.version("a", version) for version in (1, 2, 3)] == [1, 2, 3]
        shutil.rmtree(folder / "3")
        server.wait_for_states("a", v1="AVAILABLE", v2="AVAILABLE", v3="END")
        assert server.version("a") == 2
        assert server.refusal("a", 3) == ("NOT_FOUND", "Version 3 of model a is not served here: ask for 1, 2.")
        add_version(folder, 3)
        server.wait_for_states("a", v1="AVAILABLE", v2="AVAILABLE", v3="AVAILABLE")


def test_the_highest_version_before_it_takes_over_when_the_latest_is_removed(numbered, tmp_path):
    folder = numbered("a", 1, 2)
    with serving(tmp_path, null("a", folder)) as server:
        assert server.states("a") == {2: "AVAILABLE"}
        shutil.rmtree(folder / "2")
        server.wait_for_states("a", v1="AVAILABLE", v2="END")
        assert server.version("a") == 1


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["moved", "emptied"])
def test_a_model_is_served_on_while_its_folder_is_gone_or_empty(numbered, tmp_path, gone):
    folder, other = numbered("a", 1), numbered("b", 1)
    with serving(tmp_path, null("a", folder), null("b", other)) as server:
        away = folder / "1" if gone == "emptied" else folder
        away.rename(tmp_path / "away")
        looked_again(server, other)
        assert server.states("a") == {1: "AVAILABLE"}
        assert server.version("a") == 1
        assert server.log().count("model a is served as it is") == 1
        (tmp_path / "away").rename(away)
        add_version(folder, 2)
        server.wait_for_states("a", v1="END", v2="AVAILABLE")


def test_policies_say_which_versions_are_served(numbered, tmp_path):
    folder, other = numbered("a", 1, 2, 3), numbered("b", 1)
    policies = {
        "latest": {"kind": "latest", "num_versions": 2},
        "all": {"kind": "all"},
        "specific": {"kind": "specific", "versions": [1, 3, 9]},
    }
    models = [null(name, folder, version_policy=policy) for name, policy in policies.items()]
    with serving(tmp_path, *models, null("b", other)) as server:
        assert server.states("latest") == {2: "AVAILABLE", 3: "AVAILABLE"}
        assert server.states("all") == {1: "AVAILABLE", 2: "AVAILABLE", 3: "AVAILABLE"}
        assert server.states("specific") == {1: "AVAILABLE", 3: "AVAILABLE"}
        add_version(folder, 9)
        server.wait_for_states("latest", v2="END", v3="AVAILABLE", v9="AVAILABLE")
        server.wait_for_states("all", v1="AVAILABLE", v2="AVAILABLE", v3="AVAILABLE", v9="AVAILABLE")
        server.wait_for_states("specific", v1="AVAILABLE", v3="AVAILABLE", v9="AVAILABLE")
        add_version(folder, 10)
        server.wait_for_states("latest", v2="END", v3="END", v9="AVAILABLE", v10="AVAILABLE")
        looked_again(server, other)
        assert sorted(server.states("specific")) == [1, 3, 9]
        assert server.refusal("specific", 10)[0] == "NOT_FOUND"


def test_labels_name_versions(numbered, tmp_path):
    folder = numbered("a", 1, 2)
    labels = {"stable": 1, "canary": 2, "next": 3}
    with serving(tmp_path, null("a", folder, version_policy={"kind": "all"}, version_labels=labels)) as server:
        assert (server.version("a", label="stable"), server.version("a", label="canary")) == (1, 2)
        code, sentence = server.refusal("a", label="nightly")
        assert code == "INVALID_ARGUMENT"
        assert sentence == "Model a has no version label 'nightly': ask for one of canary, next, stable."
        assert server.refusal("a", label="next")[0] == "NOT_FOUND"
        add_version(folder, 3)
        wait_for(lambda: server.states("a").get(3) == "AVAILABLE")
        assert server.version("a", label="next") == 3


def test_models_beside_each_other_have_versions_of_their_own(model, tmp_path, numbered):
    add_version(tmp_path / "real", 7, model)
    other = numbered("null", 1)
    with serving(tmp_path, openvino("real", tmp_path / "real"), null("null", other)) as server:
        looked_again(server, other)
        assert (server.version("real"), server.version("null")) == (7, 2)
        assert server.states("real") == {7: "AVAILABLE"}
        assert server.refusal("vgg") == ("NOT_FOUND", "Model 'vgg' is not served here: ask for one of null, real.")


def test_a_folder_that_is_a_saved_model_itself_is_version_1_and_stays_it(tmp_path, numbered):
    folder, other = add_version(tmp_path, 5), numbered("b", 1)
    with serving(tmp_path, null("a", folder), null("b", other)) as server:
        (folder / "saved_model.pb").unlink()
        add_version(folder, 2)
        looked_again(server, other)
        assert server.states("a") == {1: "AVAILABLE"}


@pytest.mark.slow
def test_without_a_poll_the_versions_of_the_start_stay(numbered, tmp_path):
    folder = numbered("a", 1)
    still, watched = tmp_path / "still", tmp_path / "watched"
    for place in (still, watched):
        place.mkdir()
    with serving(still, null("a", folder), poll=0) as server, serving(watched, null("a", folder)) as second:
        add_version(folder, 2)
        second.wait_for_states("a", v1="END", v2="AVAILABLE")
        assert server.states("a") == {1: "AVAILABLE"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"version_policy": {"kind": "specific", "versions": [9]}},
            "has no version that its policy wants: .* has 1, 2",
        ),
        ({"engine": "openvino"}, "cannot load"),
        ({"engine": "openvino", "path": "nowhere"}, "The model folder nowhere is missing"),
    ],
)
def test_a_model_without_a_version_that_loads_ends_the_start_with_one_sentence(numbered, tmp_path, settings, sentence):
    model = {"name": "a", "path": str(numbered("a", 1, 2)), **settings}
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"address": f"unix:{tmp_path}/server.sock", "models": [model]}))
    done = run([sys.executable, "-m", "visionserve.inference.model_server", str(file)])
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert re.search(sentence, done.stdout)


def test_a_policy_is_data_and_a_wrong_one_is_refused():
    settings = ModelSettings(name="a", path="a", version_policy={"kind": "specific", "versions": [2]})
    assert ModelSettings.model_validate_json(settings.model_dump_json()) == settings
    assert ModelSettings(name="a", path="a").version_policy == VersionPolicy(kind="latest", num_versions=1)
    for wrong in ({"kind": "specific"}, {"kind": "newest"}, {"num_versions": 0}, {"kind": "all", "versions": [1]}):
        with pytest.raises(ValueError, match="version"):
            ModelSettings(name="a", path="a", version_policy=wrong)


def looked_again(server, folder):
    """The server looks at its models in turn: when the last one's new version is served, it has looked at them all."""
    highest = max(int(child.name) for child in folder.iterdir())
    add_version(folder, highest + 1)
    wait_for(lambda: server.version(folder.name) == highest + 1)


def test_a_status_of_a_version_that_never_was_is_not_found(numbered, tmp_path):
    with serving(tmp_path, null("a", numbered("a", 1))) as server:
        assert server.statuses("a", 1) == {1: ("AVAILABLE", "")}
        with pytest.raises(grpc.RpcError, match=r"Model a has no version 4: ask for 1\."):
            server.statuses("a", 4)
