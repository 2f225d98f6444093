"""The failures that a client is told about.

A class is a kind of failure; an instance adds what this one was about. Status, OpenAI type, code
and wording stand in `error_table`, one row a class. Raise where the failure is noticed, with
`raise ... from exc`; the error-mapping layer and the event stream's writer turn it into bytes.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

Fault = Literal["caller", "policy", "sai", "proxy"]


class ProxyError(Exception):
    """Base of every failure with an answer of its own.

    facts: values for the placeholders of the row's wording.
    param: the place in the request that is wrong, as OpenAI names it (`messages[2].content`).
    retry_after_s: seconds after which another try makes sense.
    retried: the proxy has already tried again by itself, so the client should not multiply that.
    detail: for the log only, never for the client.
    """

    fault: ClassVar[Fault] = "caller"
    """Whose it is: the caller's, a limit or permission's, SAI's, or this server's."""

    def __init__(
        self,
        facts: Mapping[str, str | int] = MappingProxyType({}),
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        retried: bool = False,
        detail: str | None = None,
    ) -> None:
        super().__init__(detail or type(self).__name__)
        self.param = param
        self.retry_after_s = retry_after_s
        self.retried = retried
        self.detail = detail
        self.facts = facts


class InvalidRequest(ProxyError):
    """The request says something that cannot be understood or done."""


class MalformedJson(InvalidRequest):
    """facts: problem_es, problem_en."""


class MissingParameter(InvalidRequest):
    """A required field is absent."""


class InvalidType(InvalidRequest):
    """facts: expected, found."""


class EmptyArray(InvalidRequest):
    """An array that needs at least one item has none."""


class ArrayTooLong(InvalidRequest):
    """facts: limit."""


class InvalidValue(InvalidRequest):
    """facts: problem_es, problem_en."""


class UnsupportedParameter(InvalidRequest):
    """A field promises something about the answer that a text-only service cannot keep."""


class UnsupportedValue(InvalidRequest):
    """facts: allowed."""


class UnsupportedContent(InvalidRequest):
    """A message part that the model cannot read. facts: kind, model; what can be done instead, if anything."""


class ContextLengthExceeded(InvalidRequest):
    """facts: see `error_facts.context_facts`; none if SAI noticed, not the guard."""

    fault = "policy"


class MalformedHttp(InvalidRequest):
    """The bytes on the wire are not a valid HTTP request."""


class ModelNotFound(ProxyError):
    """facts: model, known."""


class PreviousResponseNotFound(InvalidRequest):
    """`previous_response_id` names no answer that is kept here. facts: id."""


class ItemNotKept(InvalidRequest):
    """An `item_reference` names no item of an answer that is kept here. facts: id."""


class ResponseNotFound(ProxyError):
    """No answer of this id is kept here. facts: id."""


class UnknownUrl(ProxyError):
    """facts: method, path."""


class MethodNotAllowed(ProxyError):
    """facts: method, path, allowed."""


class BodyTimeout(ProxyError):
    """The client took too long to send its request. facts: seconds."""


class BodyTooLarge(ProxyError):
    """facts: limit."""


class UnsupportedMediaType(ProxyError):
    """facts: encoding."""


class CrossSite(ProxyError):
    """A web page of another site has sent this, in a form that browsers send unasked. facts: origin."""

    fault = "policy"


class AuthenticationFailed(ProxyError):
    """Nobody that SAI or this server knows."""


class AccessTokenRequired(AuthenticationFailed):
    """Neither an access token nor a SAI key of the user's own."""

    fault = "policy"


class CredentialUnusable(AuthenticationFailed):
    """A key that cannot travel in an HTTP header."""


class CredentialKindNeeded(AuthenticationFailed):
    """The way to this model lets no credential in that the request may use. facts: see `credential_kind_facts`."""

    fault = "policy"


class CredentialRejected(AuthenticationFailed):
    """SAI refused the user's credential. facts: see `error_facts.credential_facts`."""


class SystemCredentialRejected(AuthenticationFailed):
    """SAI refused the server's own credential. facts: see `error_facts.credential_facts`."""

    fault = "sai"


class PermissionDenied(ProxyError):
    """The credential is good, but may not run this template. facts: see `error_facts.credential_facts`."""

    fault = "policy"


class RateLimited(ProxyError):
    """SAI's limit is used up for the last credential of the chain. facts: see `error_facts.credential_facts`."""

    fault = "policy"


class TooManyAtOnce(ProxyError):
    """As many requests with this key are running as one key may have. facts: limit."""

    fault = "policy"


class TemplateNotFound(ProxyError):
    """SAI does not know the template."""

    fault = "sai"


class UpstreamRejected(InvalidRequest):
    """SAI refused the request itself (400 or 422)."""

    fault = "sai"


class UpstreamConflict(ProxyError):
    """SAI answered 409."""

    fault = "sai"


class UpstreamTooLarge(ProxyError):
    """SAI answered 413."""

    fault = "sai"


class UpstreamError(ProxyError):
    """SAI failed, or answered what is no answer. facts: status."""

    fault = "sai"


class UpstreamProtocolError(UpstreamError):
    """SAI's bytes are not valid HTTP, or end before they should."""


class UpstreamTlsError(UpstreamError):
    """SAI's certificate is not to be trusted."""


class UpstreamAnswerTooLong(UpstreamError):
    """SAI's answer is longer than this server takes. facts: limit."""


class ToolCallCut(ProxyError):
    """SAI's answer ends in the middle of a tool call, of which nothing may be run."""

    fault = "sai"


class ToolChoiceDisobeyed(UpstreamError):
    """A tool call was demanded, and the model made none, when asked again either. facts: wanted."""


class OutputMismatch(UpstreamError):
    """JSON was demanded, and the model wrote none that fits, when asked again either. facts: problem."""


class UpstreamUnavailable(UpstreamError):
    """SAI says that it cannot answer now, or has failed so often that it is left alone for a moment."""


class UpstreamUnreachable(UpstreamError):
    """No connection to SAI."""


class UpstreamTimeout(UpstreamError):
    """SAI did not answer in time. facts: see `error_facts.timeout_facts`."""


class ServerStopping(ProxyError):
    """This server is being shut down before the answer was complete."""

    fault = "proxy"


class StoreUnavailable(ProxyError):
    """The answers that are kept cannot be reached, and the request refers to one."""

    fault = "proxy"


class ServerBusy(ProxyError):
    """As much is held, or running, as this server can bear."""

    fault = "proxy"


class InternalError(ProxyError):
    """A bug of ours."""

    fault = "proxy"
