import click

from visionserve.models.cli.cpu import cpu
from visionserve.models.cli.detector import detector
from visionserve.models.cli.neuron import neuron
from visionserve.models.cli.openvino import openvino
from visionserve.models.cli.tensorrt import tensorrt


@click.group()
def export() -> None:
    """Makes a build of a model: ResNet50 for one kind of hardware, or the detector.

    \b
    Examples:
      visionserve export cpu
      visionserve export detector
    """


export.add_command(cpu)
export.add_command(detector)
export.add_command(neuron)
export.add_command(openvino)
export.add_command(tensorrt)
