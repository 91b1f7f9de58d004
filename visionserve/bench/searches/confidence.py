from math import exp, fsum, log, log1p

NEGLIGIBLE = 1e-17


def confidence(over: int, requests: int, share: float) -> float:
    """The probability that at most `share` (0 to 1, both excluded) of all requests is over a limit, when `over` of
    `requests` independent ones were.

    From a uniform prior the share over the limit is distributed as Beta(over + 1, requests - over + 1), whose
    distribution function at `share` is the probability of more than `over` successes in `requests` + 1 draws
    (DLMF 8.17.5, https://dlmf.nist.gov/8.17.E5). Exact to 1e-9 for up to ten million requests.
    """
    draws = requests + 1
    if over + 1 > draws * share:
        return _tail(over + 1, draws, share, upwards=True)
    return 1.0 - _tail(over, draws, share, upwards=False)


def _tail(first: int, draws: int, share: float, upwards: bool) -> float:
    """The binomial probabilities from `first` on, away from the mean, so that each is smaller than the one before."""
    odds = share / (1.0 - share)
    number = first
    term = total = exp(_log_probability(first, draws, share))
    while term > total * NEGLIGIBLE and 0 <= number <= draws:
        if upwards:
            term *= (draws - number) / (number + 1) * odds
            number += 1
        else:
            term *= number / (draws - number + 1) / odds
            number -= 1
        total += term
    return min(total, 1.0)


def _log_probability(successes: int, draws: int, share: float) -> float:
    fewer = min(successes, draws - successes)
    ways = fsum(log((draws - taken) / (taken + 1)) for taken in range(fewer))
    return ways + successes * log(share) + (draws - successes) * log1p(-share)
