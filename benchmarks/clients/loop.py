"""The plain loop: requests.post(...) for so long, then the number of answers on stdout.

loop.py URL BODY SECONDS post|session
"""

import sys
import time
from pathlib import Path

import requests


def main() -> None:
    url, body, seconds, way = sys.argv[1:]
    post = requests.post if way == "post" else requests.Session().post
    data, headers = Path(body).read_bytes(), {"content-type": "application/json"}
    answers, end = 0, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        post(url, data=data, headers=headers, timeout=60).raise_for_status()
        answers += 1
    print(answers)


if __name__ == "__main__":
    main()
