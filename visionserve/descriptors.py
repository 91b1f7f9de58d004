import resource

# What a process opens beside its connections: libraries, models, logs, pictures.
OWN = 256
# More would be memory rather than use.
MOST_CONNECTIONS = 10_000


def raise_limit() -> None:
    """Lets this process open as many files and connections as it may at all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections() -> int:
    """How many connections a process may keep open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(soft - OWN, soft // 2))
