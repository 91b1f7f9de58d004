import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY, free_port, post, run
from tests.models.bucket import LARGE, Bucket, write_build
from tests.models.cut_proxy import CutProxy
from visionserve.cli import main

SPECS = ("cortex_cpu.yaml", "cortex_gpu.yaml", "cortex_accelerator.yaml")
COMMAND = [sys.executable, "-m", "visionserve.cli", "publish"]
DATA = "variables/variables.data-00000-of-00001"


@pytest.fixture
def bucket(ceph, monkeypatch):
    for name, value in {**ceph.environment, "AWS_MAX_ATTEMPTS": "2"}.items():
        monkeypatch.setenv(name, value)
    return Bucket(ceph)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The three specs in a folder of the test, which is also the working folder, and a build for the first."""
    for name in (*SPECS, "predictor.py"):
        shutil.copy(REPOSITORY / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    write_build(tmp_path / "models/resnet50/1")
    return tmp_path


def publish(*arguments):
    answer = CliRunner().invoke(main, ["publish", *map(str, arguments)])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer


def published(*arguments):
    answer = publish(*arguments)
    assert answer.exit_code == 0, answer.output
    return answer.output


def address(copy):
    return re.search(r"model_path: (\S+)", copy.read_text())[1]


def test_the_builds_are_on_s3_and_the_copies_differ_from_their_specs_in_the_address_alone(bucket, project):
    builds = {
        "cortex_cpu": project / "models/resnet50/1",
        "cortex_gpu": write_build(project / "models/resnet50_gpu/1"),
        "cortex_accelerator": write_build(project / "models/resnet50_neuron/1", with_variables=False),
    }
    output = published(bucket.url)
    for name, build in builds.items():
        spec, copy = project / f"{name}.yaml", project / f"{name}_s3.yaml"
        model = build.parent.name
        assert re.fullmatch(rf"{bucket.url}/{model}/[0-9a-f]{{16}}", address(copy))
        before, after = f"model_path: models/{model}\n", f"model_path: {address(copy)}\n"
        assert copy.read_bytes() == spec.read_bytes().replace(before.encode(), after.encode())
        assert bucket.holds(build, address(copy))
        assert f"cortex deploy {copy.name}" in output


def test_a_second_run_sends_nothing(bucket, project):
    assert "(sent 0.0 MB)" in published(bucket.url)
    before, copy = bucket.objects(), (project / "cortex_cpu_s3.yaml").read_bytes()
    assert "all of it was there already" in published(bucket.url)
    assert bucket.objects() == before
    assert (project / "cortex_cpu_s3.yaml").read_bytes() == copy


def test_a_changed_build_gets_another_address_and_the_one_that_is_served_stays(bucket, project):
    published(bucket.url)
    copy = project / "cortex_cpu_s3.yaml"
    first, objects = address(copy), bucket.objects()
    changed = write_build(project / "models/resnet50/1", seed="changed")
    published(bucket.url)
    assert address(copy) != first
    assert bucket.holds(changed, address(copy))
    assert objects.items() < bucket.objects().items()


def test_of_several_versions_the_highest_is_published(bucket, project):
    write_build(project / "models/resnet50/9", seed="nine")
    write_build(project / "models/resnet50/10", seed="ten")
    published(bucket.url, "cortex_cpu.yaml")
    assert {key.split("/")[3] for key in bucket.objects()} == {"10"}


def test_specs_that_share_a_build_send_it_once(bucket, project):
    (project / "other.yml").write_bytes((project / "cortex_cpu.yaml").read_bytes())
    output = published(f"s3://{bucket.name}", "cortex_cpu.yaml", "other.yml", "--suffix", "_staging")
    assert output.count("all of it was there already") == 1
    assert address(project / "cortex_cpu_staging.yaml") == address(project / "other_staging.yml")
    assert address(project / "other_staging.yml").startswith(f"s3://{bucket.name}/resnet50/")


@pytest.mark.parametrize("damage", ["other bytes", "cut off", "gone", "another manifest"])
def test_what_is_damaged_on_the_server_is_sent_again_and_nothing_else(bucket, project, damage):
    build = write_build(project / "models/resnet50/1", large=LARGE if damage == "other bytes" else 3000)
    published(bucket.url)
    before = bucket.objects()
    [key] = [key for key in before if key.endswith("model.json" if damage == "another manifest" else DATA)]
    data = bucket.read(key)
    # As a damaged copy may look: with the hash that it was sent with.
    metadata = bucket.client.head_object(Bucket=bucket.name, Key=key)["Metadata"]
    assert len(metadata["sha256"]) == 64
    if damage == "gone":
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    elif damage == "cut off":
        bucket.put(key, data[:-1], Metadata=metadata)
    else:
        bucket.put(key, data[:-1] + bytes([data[-1] ^ 1]), Metadata=metadata)
    assert "sent" in published(bucket.url)
    assert bucket.holds(build, address(project / "cortex_cpu_s3.yaml"))
    after = bucket.objects()
    assert {name for name in before if before[name][1] != after[name][1]} == {key}


def test_what_another_program_uploaded_is_not_sent_again(bucket, project):
    build = write_build(project / "models/resnet50/1", large=LARGE)
    published(bucket.url)
    [key] = [key for key in bucket.objects() if key.endswith(DATA)]
    # In one piece its ETag is not the one that our parts give it.
    bucket.put(key, (build / DATA).read_bytes())
    before = bucket.objects()
    assert "all of it was there already" in published(bucket.url)
    assert bucket.objects() == before


def test_a_spec_whose_build_is_not_there_gets_no_copy_and_loses_an_old_one(bucket, project):
    write_build(project / "models/resnet50_gpu/1")
    published(bucket.url)
    assert (project / "cortex_gpu_s3.yaml").exists()
    shutil.rmtree(project / "models/resnet50_gpu")
    lines = published(bucket.url).splitlines()
    assert lines[:2] == [
        "cortex_gpu.yaml: not published, as models/resnet50_gpu is not there: "
        "run visionserve export tensorrt --output models/resnet50_gpu/1; removed cortex_gpu_s3.yaml",
        "cortex_accelerator.yaml: not published, as models/resnet50_neuron is not there: "
        "run visionserve export neuron --output models/resnet50_neuron/1",
    ]
    assert [path.name for path in project.glob("*_s3.yaml")] == ["cortex_cpu_s3.yaml"]


def test_without_any_build_it_fails(bucket, project):
    shutil.rmtree(project / "models")
    answer = publish(bucket.url)
    assert answer.exit_code == 1
    assert "run visionserve export cpu --output models/resnet50/1" in answer.output
    assert answer.output.endswith("Error: nothing was published: none of the builds is there\n")
    assert bucket.objects() == {}


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("altered", "models/resnet50/1 is not as it was written"),
        (
            "no manifest",
            "models/resnet50/1/model.json cannot be read: No such file or directory; export the model again",
        ),
        ("no saved_model.pb", "models/resnet50/1 is not as it was written"),
        ("no variables", "models/resnet50/1 has no variables/variables.index, without which a Cortex cluster refuses"),
    ],
)
def test_a_build_that_is_damaged_or_that_cortex_would_refuse_is_not_sent(bucket, project, damage, sentence):
    published(bucket.url)
    copy, before = (project / "cortex_cpu_s3.yaml").read_bytes(), bucket.objects()
    build = project / "models/resnet50/1"
    if damage == "altered":
        (build / DATA).write_bytes(bytes(3000))
    elif damage == "no variables":
        shutil.rmtree(build)
        write_build(build, with_variables=False)
    else:
        (build / ("model.json" if damage == "no manifest" else "saved_model.pb")).unlink()
    answer = publish(bucket.url)
    assert answer.exit_code == 1
    assert answer.output.startswith(f"Error: {sentence}")
    assert bucket.objects() == before
    assert (project / "cortex_cpu_s3.yaml").read_bytes() == copy


def killed_in_the_middle(url, ceph, limit):
    """kill -9 for the command when S3 has got `limit` bytes and then no more."""
    with CutProxy(ceph.port, limit) as proxy:
        environment = {**os.environ, "AWS_ENDPOINT_URL": proxy.url}
        with subprocess.Popen([*COMMAND, url], env=environment, stderr=subprocess.PIPE) as process:
            assert proxy.cut.wait(180)
            process.kill()
        assert process.returncode == -signal.SIGKILL


def test_killed_in_the_middle_it_leaves_no_copy_and_the_next_run_sends_the_rest(bucket, project, ceph):
    build = write_build(project / "models/resnet50/1", large=LARGE)
    copy = project / "cortex_cpu_s3.yaml"
    killed_in_the_middle(bucket.url, ceph, limit=4_000_000)
    assert not copy.exists()
    before = bucket.objects()
    assert [key.split("/")[-1] for key in before] == ["saved_model.pb"]
    assert [key.split("/")[-1] for key in bucket.unfinished()] == [DATA.rsplit("/", maxsplit=1)[-1]]
    published(bucket.url)
    assert bucket.holds(build, address(copy))
    assert before.items() < bucket.objects().items()
    assert bucket.unfinished() == []

    # A copy from a time when all was there does not outlive the knowledge that it is not.
    bucket.client.delete_object(Bucket=bucket.name, Key=next(key for key in bucket.objects() if key.endswith(DATA)))
    killed_in_the_middle(bucket.url, ceph, limit=4_000_000)
    assert not copy.exists()


def test_killed_while_a_changed_build_is_sent_it_leaves_the_copy_that_points_to_the_old_one(bucket, project, ceph):
    published(bucket.url)
    copy = (project / "cortex_cpu_s3.yaml").read_bytes()
    write_build(project / "models/resnet50/1", seed="changed", large=LARGE)
    killed_in_the_middle(bucket.url, ceph, limit=4_000_000)
    assert (project / "cortex_cpu_s3.yaml").read_bytes() == copy


def test_a_build_that_changes_while_it_is_sent_gets_no_copy(bucket, project, ceph, monkeypatch):
    build = write_build(project / "models/resnet50/1", large=LARGE)
    with CutProxy(ceph.port, 4_000_000) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with subprocess.Popen([*COMMAND, bucket.url, "cortex_cpu.yaml"], stderr=subprocess.PIPE, text=True) as process:
            assert proxy.cut.wait(180)
            # It is sent after the file that is on its way now.
            (build / "variables/variables.index").write_bytes(b"changed")
            proxy.resume()
            _, said = process.communicate(timeout=180)
    assert process.returncode == 1
    assert said == (
        "Error: models/resnet50/1/variables/variables.index was changed while it was being published: "
        "export the build again\n"
    )
    assert list(project.glob("*_s3.yaml")) == []


def test_a_server_that_goes_away_in_the_middle_is_one_sentence_and_no_copy(bucket, project, ceph, monkeypatch):
    write_build(project / "models/resnet50/1", large=LARGE)
    with CutProxy(ceph.port, 4_000_000, dies=True) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        answer = publish(bucket.url, "cortex_cpu.yaml")
    assert answer.exit_code == 1
    assert answer.output == f"Error: {bucket.url} cannot be written: {proxy.url} does not answer.\n"
    assert list(project.glob("*_s3.yaml")) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "the credentials are not valid there (InvalidAccessKeyId)"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "the credentials are not valid there (SignatureDoesNotMatch)"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "there are no credentials for it: set AWS_ACC"),
        ({"AWS_SESSION_TOKEN": "wrong-secret\n"}, "no setting or credential holds a line break"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:{port}"}, "http://127.0.0.1:{port} does not answer"),
        ({"AWS_ENDPOINT_URL": "nowhere"}, "boto3's settings are wrong: Invalid endpoint: nowhere"),
        ({"AWS_PROFILE": "nobody"}, "boto3's settings are wrong: The config profile (nobody) could not be found"),
    ],
)
def test_what_s3_or_its_settings_refuse_is_one_sentence_without_secrets(
    bucket, project, monkeypatch, tmp_path, unused_port, settings, sentence
):
    port = str(unused_port())
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in settings.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value.replace("{port}", port))
    answer = publish(bucket.url, "cortex_cpu.yaml")
    assert answer.exit_code == 1
    assert answer.output.count("\n") == 1
    assert answer.output.startswith(f"Error: {bucket.url} cannot be written: ")
    assert sentence.replace("{port}", port) in answer.output
    assert "wrong-secret" not in answer.output
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "none") not in answer.output
    assert list(project.glob("*_s3.yaml")) == []


def test_a_bucket_that_is_not_there_or_that_is_somebody_else_s_is_one_sentence(bucket, project, monkeypatch, ceph):
    answer = publish("s3://no-such-bucket/models", "cortex_cpu.yaml")
    assert (answer.exit_code, answer.output.count("\n")) == (1, 1)
    assert "there is no bucket no-such-bucket: create it, or correct the address" in answer.output
    stranger = ceph.add_user("stranger")
    for name, value in stranger.items():
        monkeypatch.setenv(name, value)
    answer = publish(bucket.url, "cortex_cpu.yaml")
    assert (answer.exit_code, answer.output.count("\n")) == (1, 1)
    assert f"access is denied: these credentials need to list, read and write objects in the bucket {bucket.name}" in (
        answer.output
    )


def test_a_server_whose_certificate_nobody_here_knows_is_one_sentence(bucket, project, monkeypatch, ceph):
    monkeypatch.setenv("AWS_ENDPOINT_URL", ceph.secure_endpoint)
    answer = publish(bucket.url, "cortex_cpu.yaml")
    assert (answer.exit_code, answer.output.count("\n")) == (1, 1)
    assert "has a certificate that is not trusted here" in answer.output


def test_a_machine_without_boto3_is_told_what_installs_it(project, monkeypatch):
    # boto3 is installed here, so its import is blocked.
    monkeypatch.setitem(sys.modules, "boto3", None)
    answer = publish("s3://bucket/models", "cortex_cpu.yaml")
    assert answer.exit_code == 3
    assert answer.output == "Error: s3://bucket/models needs boto3: run scripts/setup s3 in visionserve's folder.\n"


@pytest.mark.parametrize(
    "url", ["models", "https://bucket/models", "s3://", "s3:///models", "s3://b u", "s3://b1/a//b"]
)
def test_an_address_that_is_none_is_wrong_usage(project, url):
    answer = publish(url)
    assert answer.exit_code == 2
    assert url in answer.output


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("- name: a\n  predictor: {type: python, path: predictor.py}\n", "cortex.yaml has no predictor.model_path"),
        ("- predictor: {model_path: s3://b/models/x}\n", "cortex.yaml points to s3://b/models/x already"),
        ("- predictor: {model_path: &m models/resnet50, note: *m}\n", "cortex.yaml writes a model_path in a way"),
        ("- name: [\n", "cortex.yaml:2: "),
        ("", "cortex.yaml has no predictor.model_path"),
    ],
)
def test_a_spec_that_cannot_be_published_is_wrong_usage(project, content, sentence):
    (project / "cortex.yaml").write_text(content)
    answer = publish("s3://bucket/models", "cortex.yaml")
    assert (answer.exit_code, answer.output.count("\n")) == (2, 1)
    assert answer.output.startswith(f"Error: {sentence}")


def test_a_file_of_the_copy_s_name_that_is_no_copy_is_left_alone(project):
    spec = (project / "cortex_cpu.yaml").read_bytes()
    (project / "cortex_cpu_s3.yaml").write_bytes(spec)
    answer = publish("s3://bucket/models", "cortex_cpu.yaml")
    assert answer.exit_code == 2
    assert "choose another --suffix" in answer.output
    assert (project / "cortex_cpu_s3.yaml").read_bytes() == spec


def test_several_models_and_apis_in_one_spec_each_get_their_address(bucket, project):
    write_build(project / "models/b c/1", seed="b")
    write_build(project / "models/c/1", seed="c")
    text = (
        "- name: a # é\r\n  predictor:\r\n    model_path: 'models/resnet50'   # kept\r\n"
        '- {name: b, predictor: {models: {paths: [{name: c, model_path: "models/c"}]}}}\r\n'
    )
    (project / "two.yaml").write_bytes(text.encode())
    published(bucket.url, "two.yaml")
    copy = (project / "two_s3.yaml").read_bytes().decode()
    addresses = re.findall(r"s3://[\w./-]+", copy)
    assert [each.split("/")[4] for each in addresses] == ["resnet50", "c"]
    assert copy == text.replace("'models/resnet50'", addresses[0]).replace('"models/c"', addresses[1])
    (project / "two.yaml").write_bytes(text.replace("models/c", "models/b c").encode())
    assert publish(bucket.url, "two.yaml").exit_code == 2


def test_the_published_copy_is_deployed_over_https_and_answers(bucket, model, machine, ceph, tmp_path):
    classes = "visionserve/vision/imagenet_classes.json"
    for name in ("predictor.py", classes):
        shutil.copy(REPOSITORY / name, tmp_path)
    # A folder called visionserve would hide the package from commands that run beside it.
    spec = (REPOSITORY / "cortex_cpu.yaml").read_text().replace(classes, "imagenet_classes.json")
    (tmp_path / "cortex_cpu.yaml").write_text(spec)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/resnet50").symlink_to(model)
    machine.environment |= {"AWS_ENDPOINT_URL": ceph.secure_endpoint, "AWS_CA_BUNDLE": str(ceph.authority)}
    command = [*COMMAND, bucket.url, "cortex_cpu.yaml"]
    done = run(command, cwd=tmp_path, env=machine.environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    api = machine.deploy("cortex_cpu_s3.yaml", "--port", free_port(), cwd=tmp_path)
    answer = post(api.endpoint, data=(REPOSITORY / "sample.json").read_bytes())
    assert answer.json()[:3] == ["Egyptian_cat", "tiger_cat", "tabby"]


@pytest.mark.slow
def test_help_has_an_example_and_imports_no_boto3():
    check = "atexit.register(lambda: print({'boto3', 'yaml', 'tensorflow'} & set(sys.modules) or 'light'))"
    code = f"import atexit, sys\n{check}\nfrom visionserve.cli import main\nmain(['publish', '--help'])"
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0
    assert "visionserve publish s3://bucket/models" in done.stdout
    assert done.stdout.endswith("light\n")
