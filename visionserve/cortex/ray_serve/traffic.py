from concurrent.futures import ThreadPoolExecutor

import requests

from visionserve.cortex.metrics import RequestTotals
from visionserve.cortex.ray_serve.cluster import Cluster

# Counted by Serve's proxies, which outlive the replicas.
REQUESTS = "ray_serve_num_http_requests"
LATENCY = "ray_serve_http_request_latency_ms"
SECONDS = 2.0


def traffic(cluster: Cluster, name: str) -> RequestTotals:
    """Requests and latency of an API as the proxies of all nodes have counted them; empty where no node tells.

    Ray's agents publish what the proxies count after some seconds.
    """
    from prometheus_client.parser import text_string_to_metric_families

    pages = [node.metrics for node in cluster.nodes()]
    with ThreadPoolExecutor(max(1, len(pages))) as threads:
        texts = [text for text in threads.map(_page, pages) if text]
    if not texts:
        return RequestTotals({}, None)
    by_class = dict.fromkeys(("2xx", "4xx", "5xx"), 0)
    milliseconds = count = 0.0
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.labels.get("application") != name:
                    continue
                if sample.name in (REQUESTS, f"{REQUESTS}_total"):
                    status_class = f"{sample.labels.get('status_code', '?')[0]}xx"
                    by_class[status_class] = by_class.get(status_class, 0) + int(sample.value)
                elif sample.name == f"{LATENCY}_sum":
                    milliseconds += sample.value
                elif sample.name == f"{LATENCY}_count":
                    count += sample.value
    return RequestTotals(by_class, milliseconds / count / 1000 if count else None)


def _page(url: str) -> str:
    try:
        answer = requests.get(url, timeout=SECONDS)
    except requests.RequestException:
        return ""
    return answer.text if answer.ok else ""
