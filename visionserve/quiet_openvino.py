from typing import Any

from visionserve.environment import environment


def import_openvino() -> Any:
    """openvino without its telemetry, which is otherwise on until a user opts out, and says so nowhere: it reports its
    import and leaves files in the user's home. Raises ImportError where it is not installed."""
    # Read as it is imported.
    with environment(CI="true"):
        import openvino
    return openvino
