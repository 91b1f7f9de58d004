from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from classifier import Engine, decode, load_engine, top5
from fastapi import FastAPI
from pydantic import BaseModel

engines: dict[str, Engine] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engines["resnet50"] = load_engine()
    yield
    engines.clear()


app = FastAPI(lifespan=lifespan)


class Picture(BaseModel):
    img: str


@app.post("/")
def classify(picture: Picture) -> list[str]:
    return top5(engines["resnet50"](np.stack([decode(picture.img)]))[0])
