from dataclasses import replace

from visionserve.cortex.ray_serve.cluster import Node
from visionserve.cortex.ray_serve.mapping import Resources
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import DeploymentError

FIELDS = {"GPU": "compute.gpu", "neuron_cores": "compute.inf", "memory": "compute.mem", "CPU": "compute.cpu"}


def fitted(spec: ApiSpec, wanted: Resources, nodes: list[Node]) -> tuple[Resources, list[str]]:
    """What a replica reserves on a cluster of these nodes, and a note where that is less than the spec says.

    A request for more CPUs than any node has is cut to the largest: the same spec runs on machines of any size.
    Raises DeploymentError where no node could hold one replica, or the nodes together not init_replicas.
    """
    notes = []
    largest = max((node.total.get("CPU", 0) for node in nodes), default=0)
    if wanted.cpus > largest > 0:
        notes.append(
            f"compute.cpu: {spec.compute.cpu:g} is cut to {largest:g}, what the largest node of the cluster has."
        )
        wanted = replace(wanted, cpus=largest)
    needed = wanted.as_ray()
    if not any(node.could_hold(needed) for node in nodes):
        raise DeploymentError(_sentence(spec, needed, nodes))
    room = sum(_times(needed, node) for node in nodes)
    if needed and room < spec.autoscaling.init_replicas:
        raise DeploymentError(
            f"{spec.file.name} asks for autoscaling.init_replicas: {spec.autoscaling.init_replicas}, but the nodes of "
            f"the cluster hold only {room} such replicas: lower it, or add nodes."
        )
    return wanted, notes


def _times(needed: dict[str, float], node: Node) -> int:
    return int(min((node.total.get(name, 0) / amount for name, amount in needed.items()), default=0))


def _sentence(spec: ApiSpec, needed: dict[str, float], nodes: list[Node]) -> str:
    for name, field in FIELDS.items():
        most = max((node.total.get(name, 0) for node in nodes), default=0)
        if needed.get(name, 0) > most:
            device = name in ("GPU", "neuron_cores")
            remedy = "add --compute cpu to run the API on CPUs" if device else "ask for less, or add a larger node"
            return (
                f"{spec.file.name} asks for {field} of {_shown(name, needed[name])}, but no node of the cluster has "
                f"more than {_shown(name, most)}: {remedy}."
            )
    return f"No node of the cluster has all that {spec.file.name} asks for at once ({needed}): ask for less."


def _shown(name: str, amount: float) -> str:
    unit = {"memory": "MiB", "neuron_cores": "neuron_cores"}.get(name, name)
    return f"{amount / 2**20 if name == 'memory' else amount:.0f} {unit}"
