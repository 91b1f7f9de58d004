"""The closed list of what can be wrong with what a client sends."""


class ImageError(ValueError):
    """The predicate of a sentence about one image ("is not an image: ..."): its name goes before it."""


class UrlError(ValueError):
    """The predicate of a sentence about one URL ("leads to 10.0.0.7, ..."), as with ImageError."""


class PayloadError(ValueError):
    """The whole sentence about a request's payload, ready for its answer."""
