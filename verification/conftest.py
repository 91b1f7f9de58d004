import os

import pytest
import requests


def pytest_addoption(parser: pytest.Parser) -> None:
    default = os.environ.get("VISIONSERVE_ENDPOINT", "http://127.0.0.1:5000")
    parser.addoption("--endpoint", default=default, help=f"URL of the running classifier; default: {default}")
    route = os.environ.get("VISIONSERVE_ROUTE", "resnet")
    parser.addoption("--route", default=route, help=f"which of its models to ask; default: {route}")


@pytest.fixture(scope="session")
def endpoint(pytestconfig: pytest.Config) -> str:
    """The URL of a classifier that answers."""
    url = pytestconfig.getoption("--endpoint").rstrip("/")
    try:
        requests.get(f"{url}/healthz", timeout=10)
    except requests.RequestException:
        pytest.exit(f"No classifier answers at {url}: start one with `visionserve rest`, or say --endpoint URL.", 1)
    return url


@pytest.fixture(scope="session")
def classify(endpoint: str, pytestconfig: pytest.Config) -> str:
    """The URL that images are posted to."""
    return f"{endpoint}/classify/{pytestconfig.getoption('--route')}"
