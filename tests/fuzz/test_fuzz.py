"""A bounded part of what scripts/fuzz does for longer, with the same seed every time."""

import pytest

from tests.fuzz.__main__ import IN_PROCESS, fuzz
from tests.fuzz.live import LIVE, fuzz_live

SEED = 20150512


@pytest.mark.slow
def test_damaged_images_give_pixels_or_a_sentence_and_the_size_in_their_header() -> None:
    report = fuzz("image", 2000, SEED)
    assert (report["cases"], report["findings"]) == (2000, [])


@pytest.mark.slow
def test_damaged_bodies_specs_events_and_urls_are_read_or_refused_by_the_closed_list_of_errors() -> None:
    report = fuzz(",".join(IN_PROCESS), 4000, SEED)
    assert (report["cases"], report["findings"]) == (4000, [])


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("name", LIVE)
def test_no_damaged_request_is_answered_500_or_stays_in_memory(name: str) -> None:
    assert fuzz_live(name, 300, SEED)["findings"] == []
