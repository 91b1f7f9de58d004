from visionserve.services.function.function import new

__all__ = ["new"]
