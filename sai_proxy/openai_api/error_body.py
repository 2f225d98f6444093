"""The error object of every OpenAI endpoint: `{"error": {message, type, param, code}}`."""

import msgspec
from msgspec import Struct

from sai_proxy.errors.table import ErrorForm


class ErrorObject(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    error: ErrorObject


def error_body(form: ErrorForm) -> bytes:
    """JSON of a failure, all four keys always present."""
    return msgspec.json.encode(ErrorBody(ErrorObject(form.message, form.type, form.param, form.code)))
