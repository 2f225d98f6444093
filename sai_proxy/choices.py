"""The choices of one answer: SAI's replies to one request, read as one sequence of pieces."""

import logging

from sai_proxy.chat import Question, Usage
from sai_proxy.credentials import Credential
from sai_proxy.errors import RateLimited
from sai_proxy.record import RequestRecord
from sai_proxy.sai_api.upstream import Reply, Upstream

logger = logging.getLogger(__name__)


class Choice:
    """One choice's text as it comes, and how it ended."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.chars = 0
        self.finish_reason = "stop"

    @property
    def model(self) -> str | None:
        return self._reply.model

    @property
    def usage(self) -> Usage:
        return self._reply.usage

    async def read(self) -> str | None:
        """The next piece, None at the end. Cancelled calls lose nothing."""
        text = await self._reply.read()
        if text is not None:
            self.chars += len(text)
        elif not self.chars:
            logger.warning("SAI answered with no text")
        return text

    def close(self) -> None:
        self._reply.close()


async def ask_in_turn(
    upstream: Upstream, question: Question, credentials: tuple[Credential, ...], record: RequestRecord
) -> Reply:
    """Ask with each credential until one is not over SAI's limit.

    Only a 429 leads to the next one: a refused credential is final, since another identity must
    not quietly take its place. Raises what the last one tried raised.
    """
    *others, last = credentials
    for credential in others:
        record.credential = credential.label
        try:
            return await upstream.ask(question, credential, record)
        except RateLimited as exc:
            record.fallback = True
            logger.warning(
                "SAI's limit reached, trying the next credential",
                extra={"credential": credential.label, "detail": exc.detail},
            )
    record.credential = last.label
    return await upstream.ask(question, last, record)
