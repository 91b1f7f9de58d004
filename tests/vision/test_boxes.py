import cv2
import numpy as np
import pytest

from visionserve.vision.boxes import overlap, suppress, to_pixels


def random_boxes(count, seed):
    """Boxes of [0, 100) in crowds, as a detector's are before suppression; scores; classes."""
    random = np.random.default_rng(seed)
    low = np.repeat(random.uniform(0, 70, (count // 5, 2)), 5, axis=0) + random.uniform(0, 8, (count, 2))
    boxes = np.hstack([low, low + random.uniform(10, 22, (count, 2))])
    return boxes, random.permutation(count) / count, random.integers(0, 3, count)


@pytest.mark.parametrize("max_overlap", [0.3, 0.45, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_suppression_keeps_the_boxes_that_opencv_s_keeps(seed, max_overlap):
    boxes, scores, classes = random_boxes(100, seed)
    corner_and_size = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    expected = cv2.dnn.NMSBoxesBatched(corner_and_size, scores.tolist(), classes.tolist(), -1.0, max_overlap)
    kept = suppress(boxes, scores, classes, max_overlap)
    assert set(kept) == set(np.ravel(expected).tolist())
    assert len(kept) < 100
    assert (np.diff(scores[kept]) < 0).all()


def test_boxes_of_different_classes_do_not_suppress_each_other():
    boxes = np.array([[0, 0, 1, 1]] * 3, float)
    assert suppress(boxes, np.array([0.3, 0.9, 0.5]), np.array([1, 1, 2]), 0.5) == [1, 2]
    assert suppress(np.empty((0, 4)), np.empty(0), np.empty(0, int), 0.5) == []


def test_overlap_is_intersection_over_union():
    one = np.array([[0, 0, 2, 2]], float)
    others = np.array([[0, 0, 2, 2], [0, 1, 2, 3], [2, 2, 3, 3], [1, 1, 1, 1]], float)
    assert overlap(one, others).tolist() == [[1, 1 / 3, 0, 0]]
    assert overlap(others[3:], others[3:]).tolist() == [[0]]


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0.1, 0.2, 0.5, 0.9), [10, 40, 50, 180]),
        ((-0.5, -0.1, 1.5, 1.01), [0, 0, 100, 200]),
        ((0.5, 0.5, 0.5001, 0.5001), [50, 100, 51, 101]),
        ((0.999, 0.999, 1, 1), [99, 199, 100, 200]),
    ],
)
def test_a_box_becomes_whole_pixels_within_the_picture(box, pixels):
    assert to_pixels(box, height=100, width=200) == pixels
