import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.mlperf import LOGS, SCENARIOS, MlperfBench, assert_refused, images_of
from tests.bench.servers import LABELS, Exchange, serving
from tests.photos import crops, encoded

pytestmark = pytest.mark.slow


@pytest.fixture
def mlperf(tmp_path: Path) -> MlperfBench:
    return MlperfBench(tmp_path)


ANSWERS = {
    "right": ["tabby", "lynx", "tiger_cat", "teapot", "vase"],
    "among five": ["lynx", "vase", "tabby", "teapot", "cup"],
    "sixth": ["lynx", "vase", "cup", "teapot", "plate", "tabby"],
    "wrong": ["lynx", "vase", "cup", "teapot", "plate"],
}
KINDS = ("right", "right", "right", "among five", "among five", "sixth", "wrong")


def pictures(count: int) -> list[bytes]:
    return [encoded(square[:48, :48]) for square in crops(count)]


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """A folder of seven pictures, all of them labeled tabby."""
    folder = tmp_path / "photos" / "tabby"
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(len(KINDS))):
        (folder / f"my cat {number}.png").write_bytes(picture)
    return folder.parent


def by_content(pictures: list[bytes], answers: list[object]) -> Callable[[Exchange], None]:
    """Answers each image by what is in it."""
    table = {base64.b64encode(picture).decode(): answer for picture, answer in zip(pictures, answers, strict=True)}

    def behave(exchange: Exchange) -> None:
        found = [table[image] for image in json.loads(exchange.body)["imgs"]]
        exchange.answer(body=json.dumps(found).encode())

    return behave


def seven() -> Callable[[Exchange], None]:
    return by_content(pictures(len(KINDS)), [ANSWERS[kind] for kind in KINDS])


@pytest.mark.parametrize("options", [(scenario,) for scenario in SCENARIOS] + [("Offline", "-b", 3, "-t", 2)], ids=str)
def test_accuracy_counts_every_image_once_at_top_1_and_top_5(mlperf, labeled, options):
    rate = ("--rate", 100) if options[0] == "Server" else ()
    with serving(seven()) as (url, record):
        run = mlperf("--scenario", *options, "--accuracy", *rate, labeled, url)
    assert run.code == 0, run.out + run.err
    assert run.figures["accuracy"] == {
        "images": 7, "top1_correct": 3, "top5_correct": 5, "top1": 3 / 7, "top5": 5 / 7,
    }  # fmt: skip
    assert run.row("top-1") == "42.86% (3 of 7 images)"
    assert run.row("top-5") == "71.43% (5 of 7 images)"
    logged = {
        entry["qsl_idx"]: json.loads(bytes.fromhex(entry["data"])) for entry in json.loads(mlperf.log(LOGS[0][11:]))
    }
    assert [logged[index] for index in range(7)] == [ANSWERS[kind][:5] for kind in KINDS]
    assert sum(images_of(record)) == run.figures["samples"] >= 7


def test_an_image_that_fails_counts_as_wrong(mlperf, labeled):
    answers: list[object] = [ANSWERS[kind] for kind in KINDS]
    answers[0] = ["tabby", "lynx"]
    with serving(by_content(pictures(len(KINDS)), answers)) as (url, _):
        run = mlperf("--scenario", "SingleStream", "--accuracy", labeled, url)
    assert run.code == 1
    assert run.figures["errors"] == {"wrong answer": 1}
    assert "2 labels instead of 5" in run.row("wrong answer")
    assert (run.figures["accuracy"]["top1_correct"], run.figures["accuracy"]["images"]) == (2, 7)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("val_map.txt", "{} tabby"),
        ("labels.txt", "{},tabby"),
        ("labels.txt", "{}\ttabby"),
        ("labels.csv", '"{}",tabby'),
    ],
    ids=["val_map.txt", "commas", "tabs", "csv"],
)
def test_labels_come_from_a_list_in_the_folder(mlperf, labeled, name, line):
    files = sorted(path.relative_to(labeled) for path in labeled.rglob("*.png"))
    header = "file,label\n" if name.endswith("csv") else ""
    (labeled / name).write_text(header + "".join(line.format(file) + "\n" for file in files))
    with serving(seven()) as (url, _):
        run = mlperf("--scenario", "Offline", "--accuracy", labeled, url)
    assert run.code == 0, run.out + run.err
    assert run.figures["accuracy"]["top1_correct"] == 3


def test_labels_that_no_answer_has_are_pointed_out(mlperf, labeled):
    (labeled / "tabby").rename(labeled / "281")
    with serving(seven()) as (url, _):
        run = mlperf("--scenario", "Offline", "--accuracy", labeled, url)
    assert run.figures["accuracy"]["top5"] == 0
    assert "281" in run.notes


def test_a_folder_that_is_not_wholly_labeled_is_refused_before_any_load(mlperf, labeled, tmp_path, photo):
    accuracy = ("--scenario", "Offline", "--accuracy")
    with serving() as (url, record):
        loose = labeled / "loose.png"
        loose.write_bytes(pictures(1)[0])
        assert_refused(mlperf(*accuracy, labeled, url), "loose.png", "no label")
        loose.unlink()
        listed = labeled / "labels.csv"
        listed.write_text("tabby/my cat 0.png,tabby\n")
        assert_refused(mlperf(*accuracy, labeled, url), "my cat 1.png", "5 more", "labels.csv")
        listed.write_text("gone.png,tabby\n")
        assert_refused(mlperf(*accuracy, labeled, url), "line 1", "gone.png")
        listed.write_text("tabby\n")
        assert_refused(mlperf(*accuracy, labeled, url), "line 1", "FILE LABEL")
        listed.unlink()
        broken = labeled / "tabby" / "broken.jpg"
        broken.write_text("not an image at all")
        assert_refused(mlperf(*accuracy, labeled, url), "broken.jpg", "no image")
        broken.unlink()
        dangling = labeled / "tabby" / "dangling.jpg"
        dangling.symlink_to(tmp_path / "nowhere")
        assert_refused(mlperf(*accuracy, labeled, url), "dangling.jpg", "cannot be read")
        (tmp_path / "empty").mkdir()
        assert_refused(mlperf(*accuracy, tmp_path / "empty", url), "empty", "without an image")
        assert_refused(mlperf(*accuracy, photo, url), "chelsea.jpg", "folder")
        assert_refused(mlperf(*accuracy, "http://127.0.0.1:1/photos", url), "folder")
        dangling.unlink()
        assert_refused(mlperf(*accuracy, "--payload", "tfserving", labeled, url), "five labels")
    assert record.bodies == []


def test_an_image_that_vanishes_before_it_is_loaded_ends_the_run_in_one_sentence(mlperf, tmp_path):
    """LoadGen loads a second set of images once the first was asked for."""
    folder = tmp_path / "many" / "tabby"
    folder.mkdir(parents=True)
    picture = pictures(1)[0]
    for number in range(1030):
        (folder / f"{number:04}.png").write_bytes(picture)

    def behave(exchange: Exchange) -> None:
        if exchange.number == 0:
            for path in folder.iterdir():
                path.unlink()
        exchange.answer()

    with serving(behave) as (url, _):
        run = mlperf("--scenario", "Offline", "--accuracy", "-b", 100, folder.parent, url)
    assert run.code == 1
    assert "Traceback" not in run.err
    assert re.search(r"^Error: .*\.png cannot be read any more: .*\.$", run.err, re.MULTILINE)


@pytest.mark.slow
def test_no_more_images_are_in_memory_than_mlperf_asks_for(mlperf, tmp_path):
    folder = tmp_path / "many" / LABELS[0]
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(50)):
        for copy in range(30):
            (folder / f"{number:02}-{copy:02}.png").write_bytes(picture)
    with serving() as (url, record):
        run = mlperf("--scenario", "Offline", "-i", 0.2, "-s", 50, "-b", 50, folder.parent, url)
        assert run.figures["loadgen"]["parameters"]["performance_sample_count"] == 1024
        record.bodies.clear()
        run = mlperf("--scenario", "Offline", "--accuracy", "-b", 50, folder.parent, url)
    assert run.code == 0, run.out + run.err
    assert sum(images_of(record)) == 1500
    assert run.figures["accuracy"]["top1_correct"] == 1500
