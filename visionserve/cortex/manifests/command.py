import re
from pathlib import Path

import click

from visionserve.errors import UsageError

# Imports of the rest stay inside the command: --help answers at once.

APPLIED_IN_ONE = 250 << 10


def _object_name(context: click.Context, parameter: click.Parameter, value: str | tuple[str, ...] | None) -> object:
    for name in value if isinstance(value, tuple) else [value] if value is not None else []:
        if len(name) > 253 or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name, re.ASCII):
            raise click.BadParameter(
                f"{name!r} is not a name in Kubernetes: use lowercase letters, digits, '-' and '.'."
            )
    return value


def _image(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"\S+", value):
        raise click.BadParameter(f"{value!r} is not the name of an image, such as registry.example.com/visionserve:1.")
    return value


@click.command("export-manifest")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["kserve", "rayservice"]),
    required=True,
    help="A KServe InferenceService, or a KubeRay RayService.",
)
@click.option("--image", required=True, callback=_image, help="Built from deploy/cortex (kserve) or deploy/ray.")
@click.option("--name", help="Which API, in a file with several; else all of them.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of the terminal.")
@click.option("-n", "--namespace", callback=_object_name, help="Else that of kubectl.")
@click.option("--service-account", callback=_object_name, help="Of the pods, such as one with a role that may read S3.")
@click.option(
    "--env-from-secret",
    "secrets",
    multiple=True,
    callback=_object_name,
    help="A Secret whose keys become environment variables, such as AWS_ACCESS_KEY_ID; may be repeated.",
)
@click.option("--models-claim", callback=_object_name, help="A PersistentVolumeClaim that holds the model folders.")
@click.option("--models-in-image", is_flag=True, help="The image holds the model folders, in /mnt/models.")
def export_manifest(
    spec: Path,
    kind: str,
    image: str,
    name: str | None,
    output: Path | None,
    namespace: str | None,
    service_account: str | None,
    secrets: tuple[str, ...],
    models_claim: str | None,
    models_in_image: bool,
) -> None:
    """Print what kubectl apply -f takes to run the APIs of SPEC on Kubernetes.

    The model is in S3, in a volume or in the image; the project comes along in a ConfigMap.

    Example: cortex export-manifest cortex_cpu_s3.yaml --kind kserve --image registry.example.com/visionserve:1
    """
    from visionserve.cortex.manifests.manifest import manifest
    from visionserve.cortex.manifests.options import ExportOptions
    from visionserve.cortex.manifests.yaml_text import yaml_documents
    from visionserve.cortex.spec.file import load_specs
    from visionserve.files import write_atomically

    if models_claim and models_in_image:
        raise UsageError("--models-claim and --models-in-image are two places of the models: keep one of them.")
    specs = load_specs(spec)
    names = ", ".join(api.name for api in specs)
    chosen = [api for api in specs if name in (None, api.name)]
    if not chosen:
        raise UsageError(f"{spec} has no API {name}: it has {names}.")
    options = ExportOptions(image, namespace, service_account, secrets, models_claim, models_in_image)
    documents = []
    for api in chosen:
        made = manifest(api, kind, options)
        documents += made.documents
        for note in made.notes:
            click.echo(f"note: {api.name}: {note}", err=True)
    text = yaml_documents(
        documents, f"From {spec.name} by cortex export-manifest --kind {kind}: change that, not this."
    )
    # kubectl apply keeps each object once more in an annotation, and 256 KiB is the most for those.
    if len(text) > APPLIED_IN_ONE:
        click.echo("note: this is large: apply it with kubectl apply --server-side.", err=True)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomically(output, text.encode())
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.") from error
    click.echo(f"wrote {output}: kubectl apply -f {output}")
