import random
import sys

import jsonschema
import pytest

from tests.conftest import run
from tests.photos import encoded, photographs

CAT = encoded(photographs()["chelsea"], ".jpg")
# A schema cannot say which bytes are an image: a form with others is valid by it, and rightly refused.
NOT_FOR_IMAGES = "positive_data_acceptance"


def test_schemathesis_finds_nothing_wrong(service):
    options = ["--max-examples", "20", "--generation-deterministic", "--exclude-checks", NOT_FOR_IMAGES]
    options += ["--request-timeout", "60"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json", *options]
    done = run(command, cwd=service.log.parent)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("query", ["", "?detail=true"])
def test_an_answer_is_as_documented(service, query):
    document = service.get("/openapi.json").json()
    call = document["paths"]["/classify/{route}"]["post"]
    assert set(call["responses"]) == {"200", "400", "404", "413", "415", "500", "503"}
    schema = call["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(service.classify(CAT, query).json(), {**document, **schema})


def test_damaged_pictures_are_never_an_error_of_the_service(service):
    dice = random.Random(6)
    statuses = set()
    for _ in range(40):
        damaged = bytearray(CAT)
        for _ in range(dice.randint(1, 30)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        statuses.add(service.classify(bytes(damaged)).status_code)
    assert statuses <= {200, 400, 415}
