"""The model server with a fake engine: it hangs where an image begins with 13, takes half a second where it begins with
more, and never loads a model from a folder of the name `endless`."""

import time

import numpy as np

from visionserve import tracing
from visionserve.inference import model_server, served_model
from visionserve.inference.null_engine import NullEngine

# Long enough to answer what is given up, however busy the machine is.
FAREWELL = 5.0


class HangingEngine(NullEngine):
    def infer(self, inputs):
        firsts = inputs["input"][:, 0, 0, 0]
        if (firsts >= 13).any():
            print("running", flush=True)
            time.sleep(1000 if (firsts == 13).any() else 0.5)
        return {"output": np.repeat(firsts[:, None], 1000, axis=1).astype(np.float32)}


def load(engine, folder, *arguments):
    if folder.name == "endless":
        print("loading", flush=True)
        time.sleep(1000)
    return HangingEngine()


if __name__ == "__main__":
    served_model.load_engine, model_server.FAREWELL = load, FAREWELL
    # A collector would get the last spans now.
    tracing.stop = lambda: print("spans", flush=True)
    raise SystemExit(model_server.main())
