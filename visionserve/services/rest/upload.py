from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

FIELD = "image"
FORM = "multipart/form-data"
MAX_PARTS = 16


async def read_image(request: Request, limit: int) -> bytes:
    """The file in the form's field `image`; `limit`: bytes of the body.

    Raises HTTPException: 415 for another kind of body, 413 for a larger one, before it is read where its length is
    told, 400 for a form without exactly one such file.
    """
    media_type, _ = parse_options_header(request.headers.get("content-type"))
    if media_type != FORM.encode():
        sent = repr(media_type.decode("latin-1")) if media_type else "without a type"
        raise HTTPException(415, f"The body is {sent}, not {FORM}: send the image as the file {FIELD} of a form.")
    if int(request.headers.get("content-length", 0)) > limit:
        raise _too_large(limit)
    parser = _InMemory(request.headers, _limited(request, limit), max_files=MAX_PARTS, max_fields=MAX_PARTS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"The form cannot be read: {error.message.rstrip('.')}.") from error
    try:
        files = form.getlist(FIELD)
        if len(files) != 1:
            count = f"{len(files)} times" if files else "not at all"
            raise HTTPException(400, f"The form has the field {FIELD} {count}: send one image as a file.")
        [file] = files
        if not isinstance(file, UploadFile):
            raise HTTPException(400, f"{FIELD} is a text, not a file: send it with a file name, as curl -F does for @.")
        image = await file.read()
    finally:
        await form.close()
    if not image:
        raise HTTPException(400, f"{FIELD} is an empty file.")
    return image


class _InMemory(MultiPartParser):
    # The body has a limit of its own; a file on disk would be written and read again through other threads.
    spool_max_size = 0


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        yield part


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The body is larger than {limit} bytes: send a smaller image.")
