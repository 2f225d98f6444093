"""What a failure looks like to a client: an error, or an assistant's message where the operator
chose that. Pure; its two callers are the error-mapping layer, before the answer starts, and the
event stream's writer afterwards."""

from typing import Literal, NamedTuple

from sai_proxy.conversation.events import Completed
from sai_proxy.conversation.tokens import estimate_tokens
from sai_proxy.errors import ContextLengthExceeded, ProxyError
from sai_proxy.errors.table import ErrorForm, Language, describe
from sai_proxy.openai_api.answer_format import AnswerFormat, written
from sai_proxy.openai_api.usage import usage_body


class FailureMessage(NamedTuple):
    """A failure told as an assistant's message."""

    text: str
    finish_reason: str


class FailurePolicy(NamedTuple):
    """The operator's choices: ERROR_STYLE, CONTEXT_OVERFLOW, MESSAGES_LANG and STREAM_CHUNK_CHARS."""

    error_style: Literal["openai", "message"] = "openai"
    context_overflow: Literal["length", "error"] = "length"
    language: Language = "es"
    chunk_chars: int = 256

    def form(self, error: ProxyError) -> ErrorForm:
        """The failure as an error."""
        return describe(error, self.language)

    def message(self, error: ProxyError, answer: AnswerFormat) -> FailureMessage | None:
        """The failure as an assistant's message, or None where it is to be an error."""
        if not answer.tells_failures:
            return None
        if isinstance(error, ContextLengthExceeded):
            told, reason = self.context_overflow == "length", "length"
        else:
            told, reason = self.error_style == "message", "error"
        return FailureMessage(self.form(error).message, reason) if told else None

    def last_events(self, error: ProxyError, answer: AnswerFormat, *, opened: bool, text_sent: bool) -> bytes:
        """How a stream ends with `error`: after some of SAI's text never as if it were complete,
        whatever the operator chose.

        opened: whether the role chunk is out. text_sent: whether any text is.
        """
        told = None if text_sent else self.message(error, answer)
        if told is None:
            return answer.failure(self.form(error))
        return b"".join(
            (
                b"" if opened else answer.opening(0),
                written(answer, 0, told.text, self.chunk_chars),
                answer.finish(0, told.finish_reason),
                answer.closing(usage_body(0, estimate_tokens(len(told.text)))),
            )
        )

    def whole_message(self, told: FailureMessage, answer: AnswerFormat) -> bytes:
        """The body of an answer that is not streamed and holds nothing but the failure."""
        return answer.whole([Completed(told.text, told.finish_reason)], usage_body(0, estimate_tokens(len(told.text))))
