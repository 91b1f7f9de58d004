from dataclasses import dataclass


@dataclass(frozen=True)
class ExportOptions:
    """What the command line adds to a spec. `secrets`: their keys become environment variables.

    Models in local folders are in the image, or in the volume that is claimed by `models_claim`; else they are refused.
    """

    image: str
    namespace: str | None = None
    service_account: str | None = None
    secrets: tuple[str, ...] = ()
    models_claim: str | None = None
    models_in_image: bool = False
