"""`visionserve rest` with less time for its end, before a model server with the fake engine of hanging_server.py."""

import sys

from tests.inference.hanging_server import HangingEngine
from visionserve.child import Child
from visionserve.inference import model_server, served_model
from visionserve.services.rest import embedded, server
from visionserve.services.rest.settings import read_settings

GRACE = 8.0


class FakeChild(Child):
    @classmethod
    async def start(cls, name, module, arguments, log):
        return await Child.start(name, "tests.services.rest.hanging_service", arguments, log)


def hanging(*arguments):
    return HangingEngine()


if __name__ == "__main__":
    if not sys.argv[1].isdecimal():
        served_model.load_engine = hanging
        raise SystemExit(model_server.main())
    embedded.Child = FakeChild
    server.GRACE, server.CHILD_SECONDS, server.END_SECONDS = GRACE, GRACE + 1, 2 * GRACE
    server.run(read_settings({"port": int(sys.argv[1]), "engine": "null"}))
