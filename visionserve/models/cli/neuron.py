from pathlib import Path

import click

from visionserve.models.cli import options


@click.command()
@options.MODEL
@options.output("models/resnet50_neuron/1")
@options.batch_sizes(
    "1", "The batch sizes to compile for, as in 1,4; other batches are filled up to one of them or cut."
)
@click.option(
    "--cores",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="NeuronCores that one copy of the model is spread over; more than one on inf1 only.",
)
@click.option(
    "--static-weights/--no-static-weights",
    default=True,
    show_default=True,
    help="Keep the weights on the core. Turn it off where inf1's compiler refuses it.",
)
@options.sample("the build must classify it, and squares cut from it, as the CPU build does.")
@options.PICTURES
@options.FORCE
def neuron(
    model: Path,
    output: Path,
    batch_sizes: list[int],
    cores: int,
    static_weights: bool,
    sample: Path,
    pictures: Path | None,
    force: bool,
) -> None:
    """Compiles the CPU build for AWS Inferentia and Trainium in FP16, and checks it on the device.

    It needs an inf1 instance with tensorflow-neuron, or an inf2 or trn1 one with tensorflow-neuronx, in an environment
    of its own: requirements/neuron.txt or requirements/neuronx.txt. At least 95 % of the operations must be on the
    device. Options in NEURON_CC_FLAGS are handed to the compiler as well.

    \b
    Examples:
      visionserve export neuron
      visionserve export neuron --batch-sizes 1,4 --pictures photos
    """
    from visionserve.models.builds.folder import find_cpu_build
    from visionserve.models.builds.neuron.compilers import Target
    from visionserve.models.builds.neuron.export import export_neuron, recipe
    from visionserve.models.builds.neuron.parts import check_device, find_compiler
    from visionserve.models.builds.pictures import folder_pictures, sample_pictures

    compiler = find_compiler()
    check_device(compiler)
    target = Target(cores, static_weights)
    making = recipe(compiler, target, batch_sizes)
    version, manifest = find_cpu_build(model)
    if not force and making.made(manifest, output):
        click.echo(f"{output} holds this build already; --force exports it again")
        return
    checked_on = sample_pictures(sample) if pictures is None else folder_pictures(pictures)
    click.echo(f"compiling {version} with {compiler.command}, NEURON_CC_FLAGS={' '.join(making.settings['flags'])}")
    exported = export_neuron(version, manifest, output, compiler, target, batch_sizes, checked_on)
    click.echo(f"wrote {exported}")
