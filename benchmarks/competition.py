"""Turns: in each round every contestant is started, warmed, measured and stopped, in an order that rotates."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bare import BATCHES, BareEngine
from cases import BARE, Case
from contestants import Contestant, Ours, PeerServer
from load import LoadError, closed_loop, fixed_count, open_loop
from peer_list import Setting
from results import OURS, CaseResult, Row

CAPACITY_SHARE = 0.7


@dataclass(frozen=True)
class Pace:
    rounds: int
    seconds: float
    latency_seconds: float
    trial_seconds: float
    warm_up_seconds: float
    clients: int


class Competition:
    def __init__(self, peers: Sequence[PeerServer], pace: Pace, say: Callable[[str], None]) -> None:
        self._peers, self._pace, self._say = peers, pace, say
        servers: list[Contestant] = [Ours(), *peers]
        self._servers = {server.name: server for server in servers}

    def run(
        self, case: Case, body: Path, capacity: CaseResult | None, keep: Callable[[CaseResult], None]
    ) -> CaseResult:
        """All rounds of `case`; `keep` gets what is there after each.

        `capacity` is the closed-loop case of the same engine, when it was measured in this run.
        """
        result = self._line_up(case)
        if case.open_loop:
            result.arrivals_per_s = self._take_capacity(case, body, result, capacity)
            if result.arrivals_per_s is None:
                return result
        elif case.peers or case.bare:
            self._choose_settings(case, body, result)
        for number in range(self._pace.rounds):
            order = list(result.rows.values())
            start = number % len(order)
            for row in order[start:] + order[:start]:
                if row.failure is None:
                    self._turn(case, body, row, result.arrivals_per_s, f"{number + 1}/{self._pace.rounds}")
            keep(result)
        return result

    def _line_up(self, case: Case) -> CaseResult:
        rows = {BARE: Row(BARE, "bare engine")} if case.bare else {}
        rows[OURS] = Row(OURS, "visionserve")
        for peer in self._peers if case.peers else ():
            rows[peer.name] = Row(peer.name, peer.title, version=peer.version())
        return CaseResult(case, rows)

    def _choose_settings(self, case: Case, body: Path, result: CaseResult) -> None:
        """A short turn of each setting on this machine, so that everyone is measured at its best.

        A setting that fails its trial is out; a row is void when all of its settings are.
        """
        for row in result.rows.values():
            settings = self._settings(row)
            if len(settings) == 1:
                row.setting = settings[0]
                continue
            rates = []
            for setting in settings:
                try:
                    rate = self._rate(case, body, row.name, setting, self._pace.trial_seconds)
                except LoadError as error:
                    row.trials[describe(setting)] = str(error)
                    row.failure = str(error)
                    self._say(f"{case.name} trial: {row.title} at {describe(setting)} is out: {error}")
                    continue
                row.trials[describe(setting)] = rate
                rates.append((rate, settings.index(setting)))
                self._say(f"{case.name} trial: {row.title} at {describe(setting)}: {rate:.2f} {case.unit}")
            if rates:
                row.failure = None
                row.setting = settings[max(rates)[1]]

    def _take_capacity(self, case: Case, body: Path, result: CaseResult, capacity: CaseResult | None) -> float | None:
        """Arrivals per second for everyone; settings are those that were best in closed loop."""
        if capacity is None:
            self._choose_settings(case, body, result)
            best = [
                max((rate for rate in row.trials.values() if isinstance(rate, float)), default=0.0)
                for row in result.rows.values()
                if row.name != OURS
            ]
            rate = max(best, default=0.0)
        else:
            for name, row in result.rows.items():
                row.setting, row.failure = capacity.rows[name].setting, capacity.rows[name].failure
            peer = capacity.best_peer()
            rate = peer.median if peer else 0.0
        if not rate:
            for row in result.rows.values():
                row.failure = row.failure or "no peer was served from, so there is no capacity to take a share of"
            return None
        return CAPACITY_SHARE * rate

    def _turn(self, case: Case, body: Path, row: Row, arrivals_per_s: float | None, number: str) -> None:
        try:
            if arrivals_per_s is None:
                row.turns.append(self._rate(case, body, row.name, row.setting, self._pace.seconds))
            else:
                latencies = self._latencies(case, body, row, arrivals_per_s)
                row.latencies_ms.append(latencies)
                row.turns.append(percentile(latencies, 99))
        except LoadError as error:
            row.failure = str(error)
            self._say(f"{case.name} {number}: {row.title} is out: {error}")
            return
        self._say(f"{case.name} {number}: {row.title} {row.turns[-1]:.2f} {case.unit}")

    def _settings(self, row: Row) -> Sequence[Setting]:
        if row.name == BARE:
            return [{"BATCH": str(size)} for size in BATCHES]
        return self._servers[row.name].settings

    def _rate(self, case: Case, body: Path, name: str, setting: Setting, seconds: float) -> float:
        if name == BARE:
            with BareEngine(case.engine) as bare:
                bare.images_per_s(int(setting["BATCH"]), self._pace.warm_up_seconds)
                return bare.images_per_s(int(setting["BATCH"]), seconds)
        with self._servers[name].up(case.engine, setting, body) as url:
            self._warm(url, body)
            return closed_loop(url, body, self._pace.clients, seconds).per_second

    def _latencies(self, case: Case, body: Path, row: Row, arrivals_per_s: float) -> list[float]:
        with self._servers[row.name].up(case.engine, row.setting, body) as url:
            self._warm(url, body)
            return open_loop(url, body, round(1000 / arrivals_per_s), self._pace.latency_seconds)

    def _warm(self, url: str, body: Path) -> None:
        """Leaves nothing in flight: a server would start the turn with what wrk abandons at its end."""
        clients, ready = self._pace.clients, time.monotonic() + self._pace.warm_up_seconds
        while time.monotonic() < ready:
            fixed_count(url, body, clients, 4 * clients)


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` % of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def describe(setting: Setting) -> str:
    return " ".join(f"{name}={value}" for name, value in setting.items()) or "as it is"
