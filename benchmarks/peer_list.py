"""The peers, and for each the settings worth trying: a run takes the one that is its best there."""

from dataclasses import dataclass, field

Setting = dict[str, str]


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    package: str
    command: tuple[str, ...]
    settings: tuple[Setting, ...]
    path: str = "/"
    pythons: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


PEERS = (
    Peer(
        "fastapi",
        "FastAPI",
        "fastapi",
        ("uvicorn", "server:app", "--port", "{port}", "--workers", "{WORKERS}", "--log-level", "warning"),
        ({"WORKERS": "1"}, {"WORKERS": "2"}, {"WORKERS": "1", "HINT": "THROUGHPUT"}),
    ),
    Peer(
        "litserve",
        "LitServe",
        "litserve",
        ("python", "server.py", "{port}"),
        (
            {"WORKERS": "1", "BATCH": "1", "API_SERVERS": "1"},
            {"WORKERS": "2", "BATCH": "1", "API_SERVERS": "1"},
            {"WORKERS": "2", "BATCH": "4", "API_SERVERS": "1"},
            {"WORKERS": "2", "BATCH": "1", "API_SERVERS": "2"},
        ),
        path="/predict",
    ),
    Peer(
        "mosec",
        "Mosec",
        "mosec",
        ("python", "server.py", "--address", "127.0.0.1", "--port", "{port}"),
        ({"PREPROCESS": "1", "BATCH": "1"}, {"PREPROCESS": "2", "BATCH": "1"}, {"PREPROCESS": "2", "BATCH": "4"}),
        path="/inference",
    ),
    Peer(
        "bentoml",
        "BentoML",
        "bentoml",
        ("bentoml", "serve", "{SERVICE}:Classifier", "--host", "127.0.0.1", "--port", "{port}"),
        (
            {"SERVICE": "service", "WORKERS": "1", "THREADS": "1"},
            {"SERVICE": "service", "WORKERS": "1", "THREADS": "4"},
            {"SERVICE": "service", "WORKERS": "2", "THREADS": "1"},
            # Two services and adaptive batching: 1.4.39 loses requests between the two under load, and falls out.
            {"SERVICE": "batched", "WORKERS": "1"},
        ),
    ),
    Peer(
        "ray_serve",
        "Ray Serve",
        "ray",
        ("python", "server.py", "{port}"),
        (
            {"REPLICAS": "1", "BATCH": "1"},
            {"REPLICAS": "1", "BATCH": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
            {"REPLICAS": "1", "BATCH": "4", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
            {"REPLICAS": "2", "BATCH": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
        ),
        environment={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
    Peer(
        "pytriton",
        "PyTriton",
        "nvidia-pytriton",
        ("python", "server.py", "{port}"),
        ({"WORKERS": "1", "BATCH": "4"}, {"WORKERS": "2", "BATCH": "1"}, {"WORKERS": "2", "BATCH": "4"}),
        # Triton's generate extension takes the same flat JSON as the others.
        path="/v2/models/classifier/generate",
        # It embeds an interpreter older than 3.11.6, which cannot run a later 3.11's standard library:
        # https://github.com/triton-inference-server/pytriton/issues/51
        pythons=("/usr/bin/python3", "python3.10"),
    ),
)
