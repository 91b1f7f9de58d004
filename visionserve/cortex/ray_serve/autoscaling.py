import math
from typing import Any

# Seconds between two decisions, as in Cortex.
TICK = 10.0


class CortexPolicy:
    """Cortex's autoscaler as a policy of Ray Serve's, which hands it the requests in flight, averaged over `window`.

    https://docs.cortexlabs.com/workloads/realtime-apis/autoscaling and pkg/operator/resources/realtimeapi/autoscaler.go
    of Cortex 0.20. Serve sends it to its controller by value: this module imports nothing of ours.
    """

    def __init__(
        self,
        target: float,
        low: int,
        high: int,
        downscale_stabilization: float,
        upscale_stabilization: float,
        max_downscale_factor: float,
        max_upscale_factor: float,
        downscale_tolerance: float,
        upscale_tolerance: float,
    ) -> None:
        """`target`: requests in flight of one replica; `low` and `high`: replicas; stabilizations: seconds."""
        self._target = target
        self._low = low
        self._high = high
        self._downscale_stabilization = downscale_stabilization
        self._upscale_stabilization = upscale_stabilization
        self._max_downscale_factor = max_downscale_factor
        self._max_upscale_factor = max_upscale_factor
        self._downscale_tolerance = downscale_tolerance
        self._upscale_tolerance = upscale_tolerance

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """context: ray.serve.config.AutoscalingContext; gives the replicas wanted, and what to keep until next time."""
        now = context.current_time
        state = context.policy_state
        started, ticked = state.get("started", now), state.get("ticked", -math.inf)
        past: list[tuple[float, int]] = state.get("past", [])
        current = context.target_num_replicas
        if now - ticked < TICK:
            return current, {"started": started, "ticked": ticked, "past": past}
        recommended = self._recommendation(context.total_num_requests / self._target, current)
        kept = max(self._downscale_stabilization, self._upscale_stabilization)
        past = [(moment, replicas) for moment, replicas in past if now - moment <= kept] + [(now, recommended)]
        wanted = self._stabilized(recommended, current, now - started, now, past)
        return wanted, {"started": started, "ticked": now, "past": past}

    def _recommendation(self, raw: float, current: int) -> int:
        recommended = math.ceil(raw)
        if current * (1 - self._downscale_tolerance) < raw < current * (1 + self._upscale_tolerance):
            recommended = current
        # One less and one more are always allowed.
        floor = min(current - 1, math.ceil(current * self._max_downscale_factor))
        ceiling = max(current + 1, math.ceil(current * self._max_upscale_factor))
        recommended = min(max(recommended, floor), ceiling)
        return min(max(recommended, self._low), self._high)

    def _stabilized(self, recommended: int, current: int, age: float, now: float, past: list[tuple[float, int]]) -> int:
        if recommended < current:
            period = self._downscale_stabilization
            if age < period:
                return current
            return min(current, max(replicas for moment, replicas in past if now - moment <= period))
        if recommended > current:
            period = self._upscale_stabilization
            if age < period:
                return current
            return max(current, min(replicas for moment, replicas in past if now - moment <= period))
        return current
