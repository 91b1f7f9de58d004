"""Messages of gRPC that cannot be read: refused as the client's mistake. grpc.aio itself logs each one with a trace and
answers UNKNOWN."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError


class Refusing:
    """Stands for `server` where generated code adds its handlers to it."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        self._server.add_generic_rpc_handlers(tuple(map(_Handler, handlers)))


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, service: grpc.GenericRpcHandler) -> None:
        self._service = service
        self._methods: dict[str, Any] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        name = handler_call_details.method
        if name not in self._methods:
            method = self._service.service(handler_call_details)
            if method is None:
                return None
            self._methods[name] = _checked(name, method)
        return self._methods[name]


def _checked(name: str, method: Any) -> Any:
    async def answer(data: bytes, context: grpc.aio.ServicerContext) -> Any:
        try:
            request = method.request_deserializer(data)
        except DecodeError as error:
            sentence = f"The message is none that {name.rpartition('/')[2]} takes: {str(error).rstrip('.')}."
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, sentence)
        return await method.unary_unary(request, context)

    return grpc.unary_unary_rpc_method_handler(answer, response_serializer=method.response_serializer)
