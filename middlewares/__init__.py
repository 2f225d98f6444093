"""The layers around the handlers, in chain order, outermost first."""

from middlewares.request_record import request_record_middleware
from middlewares.request_tracing import request_tracing_middleware
from middlewares.request_id import request_id_middleware
from middlewares.error_mapping import error_mapping_middleware
from middlewares.cors import cors_headers, cors_middleware
from middlewares.admission import admission_middleware
from middlewares.request_body import request_body_middleware
from middlewares.answer_store import answer_store_middleware
from middlewares.auth_resolution import auth_resolution_middleware
from middlewares.chat_body import chat_body_middleware
from middlewares.ide_unwrap import ide_unwrap_middleware
from middlewares.tool_prompting import tool_prompting_middleware
from middlewares.context_length import context_length_middleware
from middlewares.inference_tracing import inference_tracing_middleware

__all__ = [
    "answer_store_middleware",
    "request_record_middleware",
    "request_tracing_middleware",
    "request_id_middleware",
    "error_mapping_middleware",
    "cors_middleware",
    "cors_headers",
    "admission_middleware",
    "request_body_middleware",
    "auth_resolution_middleware",
    "chat_body_middleware",
    "ide_unwrap_middleware",
    "tool_prompting_middleware",
    "context_length_middleware",
    "inference_tracing_middleware",
]
