"""`POST /v1/responses`: a body becomes a question, with what it refers to of earlier answers."""

import msgspec

from sai_proxy.openai_api.answer_format import AnswerFormat
from sai_proxy.openai_api.endpoints import Body, Models, ParsedBody, Stamp, glimpse
from sai_proxy.openai_api.kept_responses import (
    NOTHING,
    RESPONSE_PREFIX,
    Recalled,
    References,
    ancestors_of,
    references,
)
from sai_proxy.openai_api.response_answer import ResponseAnswer, ToKeep
from sai_proxy.openai_api.response_items import PlacedItem
from sai_proxy.openai_api.response_object import Told, open_object, told_of
from sai_proxy.openai_api.response_tools import ToolNames
from sai_proxy.openai_api.responses_request import decode_responses_request, read_responses_request


class ResponsesEndpoint:
    """keeps: whether answers are kept for later requests."""

    path = "/responses"
    operation = "chat"

    def __init__(self, models: Models, stamp: Stamp, *, keeps: bool) -> None:
        self.keeps = keeps
        self._models = models
        self._stamp = stamp

    def references(self, body: Body) -> References:
        return references(body)

    def parse(self, body: Body, recalled: Recalled = NOTHING) -> ParsedBody:
        wire = decode_responses_request(body)
        read = read_responses_request(wire, self._models, recalled)
        digits, created = self._stamp()
        store = self.keeps and wire.store is not False
        told = told_of(wire, name=RESPONSE_PREFIX + digits, created_at=created, store=store)
        to_keep = None
        if store:
            previous = wire.previous_response_id
            ancestors = ancestors_of(previous, recalled) if previous is not None else ()
            to_keep = ToKeep(_as_array(read.items), ancestors)
        answer = ResponseAnswer(digits, wire.model, told, stream=bool(wire.stream), names=read.names, to_keep=to_keep)
        return ParsedBody(read.chat, answer)

    def likely_answer(self, body: Body) -> AnswerFormat:
        seen = glimpse(body)
        digits, created = self._stamp()
        model = seen.model_or(next(iter(self._models)))
        told = open_object(Told(id=RESPONSE_PREFIX + digits, created_at=created, model=model))
        return ResponseAnswer(digits, model, told, stream=seen.streams, names=ToolNames())


def _as_array(items: list[PlacedItem]) -> bytes:
    return msgspec.json.encode([placed.item for placed in items])
