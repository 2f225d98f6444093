"""The OpenAPI 3.1 document, made of the very types that decode the requests and encode the answers."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sai_proxy import __version__
from sai_proxy.errors import MethodNotAllowed, ModelNotFound, UnknownUrl
from sai_proxy.errors.table import ERROR_TABLE
from sai_proxy.openai_api.chat_answer import ChatCompletion, ChatCompletionChunk
from sai_proxy.openai_api.chat_request import ChatCompletionRequest
from sai_proxy.openai_api.completion_answer import TextCompletion
from sai_proxy.openai_api.completion_request import CompletionRequest
from sai_proxy.openai_api.error_body import ErrorBody
from sai_proxy.openai_api.kept_responses import DEFAULT_PAGE, MAX_PAGE, DeletedResponse, ItemList
from sai_proxy.openai_api.models import Model, ModelsList
from sai_proxy.openai_api.parameters import CHAT_PARAMETERS, COMPLETION_PARAMETERS, RESPONSES_PARAMETERS, Treatment
from sai_proxy.openai_api.response_object import ResponseObject
from sai_proxy.openai_api.responses_request import ResponsesRequest


class Health(Struct):
    """The answer of the health endpoints."""

    status: str
    version: str = __version__
    sai: Literal["ok", "failing"] | UnsetType = UNSET
    """Of readiness alone: `failing` while requests are refused, since SAI has failed again and again."""
    store: Literal["ok", "failing"] | UnsetType = UNSET
    """Of readiness alone, where answers are kept: `failing` while they are out of reach."""


class Welcome(Struct):
    """The answer of `GET /`."""

    name: str
    version: str
    docs: str
    openapi: str


_TYPES: tuple[type[Struct], ...] = (
    ResponsesRequest,
    ResponseObject,
    DeletedResponse,
    ItemList,
    ChatCompletionRequest,
    ChatCompletion,
    ChatCompletionChunk,
    CompletionRequest,
    TextCompletion,
    ModelsList,
    Model,
    ErrorBody,
    Health,
    Welcome,
)

_EXAMPLE = {"model": "sai-model", "messages": [{"role": "user", "content": "Hola"}]}
_TEXT_EXAMPLE = {"model": "sai-model", "prompt": "Hola"}
_RESPONSES_EXAMPLE = {"model": "sai-model", "input": "Hola"}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
_PAGE = [
    {
        "name": "limit",
        "in": "query",
        "description": "items of a page",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
    },
    {
        "name": "order",
        "in": "query",
        "description": "`desc`: the last item first",
        "schema": {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    },
    {
        "name": "after",
        "in": "query",
        "description": "the `last_id` of the page before",
        "schema": {"type": "string"},
    },
]
_FOR_CODEX = {
    "name": "client_version",
    "in": "query",
    "description": "as Codex CLI sends it: the answer has its catalogue in `models`, too",
    "schema": {"type": "string"},
}
_COMMON_HEADERS = {"x-request-id": {"description": "id of the request, as in the log", "schema": {"type": "string"}}}


_TAGS = {
    "Ask": "Questions to a model, whole or as a stream of events.",
    "Kept answers": "Answers of the Responses API, for whoever asked for them.",
    "Models": "What is served, and what each model can.",
    "Server": "Health and welcome.",
}
_DESCRIPTION = """OpenAI's API in front of SAI. Every path also exists without `/v1`.

**Credentials**: none is needed where the server uses its own (`raspberry` counts as none). With a SAI API key of your
own, send it as the bearer. If the server has access tokens, the bearer is one of them.

**Streaming**: with `"stream": true` the answer is a row of server-sent events:

```sh
curl -N localhost:4000/v1/chat/completions -H "Content-Type: application/json" \\
  -d '{"model": "sai-model", "stream": true, "messages": [{"role": "user", "content": "Hola"}]}'
```

**Errors** all have the form `{"error": {"message", "type", "param", "code"}}`; the status and the code say which:

%s
"""


def _error_table() -> str:
    rows = sorted({(row.status, row.code or "", row.type) for row in ERROR_TABLE.values()})
    lines = [f"| {status} | {f'`{code}`' if code else ''} | `{kind}` |" for status, code, kind in rows]
    return "\n".join(["| Status | Code | Type |", "|---|---|---|", *lines])


_TAG_OF = (("/health", "Server"), ("/v1/models", "Models"), ("/v1/responses/{id}", "Kept answers"), ("/v1/", "Ask"))


def _tagged(paths: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each operation with the tag of its path."""
    for path, operations in paths.items():
        tag = next((tag for start, tag in _TAG_OF if path.startswith(start)), "Server")
        for operation in operations.values():
            operation["tags"] = [tag]
    return paths


def openapi_document(models: Iterable[str]) -> dict[str, Any]:
    """The document. models: names that are served, for the examples."""
    model = next(iter(models))
    _, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    _describe(components["ChatCompletionRequest"], CHAT_PARAMETERS)
    _describe(components["CompletionRequest"], COMPLETION_PARAMETERS)
    _describe(components["ResponsesRequest"], RESPONSES_PARAMETERS)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sai-proxy",
            "version": __version__,
            "description": _DESCRIPTION % _error_table(),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{}, {"bearer": []}, {"userApiKey": []}, {"apiKey": []}],
        "paths": _tagged(
            {
                "/v1/chat/completions": {
                    "post": _asking(
                        "Answer a conversation",
                        ChatCompletionRequest,
                        ChatCompletion,
                        ChatCompletionChunk,
                        {**_EXAMPLE, "model": model},
                    )
                },
                "/v1/responses": {
                    "post": _asking(
                        "Answer input items (Responses API)",
                        ResponsesRequest,
                        ResponseObject,
                        None,
                        {**_RESPONSES_EXAMPLE, "model": model},
                    )
                },
                "/v1/responses/{id}": {
                    "get": _stored("Show an answer that is kept", ResponseObject),
                    "delete": _stored("Forget an answer that is kept", DeletedResponse),
                },
                "/v1/responses/{id}/input_items": {
                    "get": _stored("List what was new in the request of an answer that is kept", ItemList, _PAGE)
                },
                "/v1/completions": {
                    "post": _asking(
                        "Answer a prompt (legacy)",
                        CompletionRequest,
                        TextCompletion,
                        TextCompletion,
                        {**_TEXT_EXAMPLE, "model": model},
                    )
                },
                "/v1/models": {"get": {**_getting("List the models", ModelsList), "parameters": [_FOR_CODEX]}},
                "/v1/models/{id}": {
                    "get": {
                        **_getting("Show a model", Model, errors=_errors([ModelNotFound, UnknownUrl])),
                        "parameters": [{**_ID, "example": model}],
                    }
                },
                "/health": {"get": _getting("Whether the server runs", Health)},
                "/health/liveness": {"get": _getting("Whether the process lives", Health)},
                "/health/readiness": {
                    "get": _getting("Whether new requests are welcome", Health, also={503: "about to stop"})
                },
                "/": {"get": _getting("Name and version", Welcome)},
            }
        ),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "an access token, a SAI API key of your own, or `raspberry` for none",
                },
                "userApiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-user-api-key",
                    "description": "a SAI API key, or session cookie, of your own",
                },
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "the same, for clients that know only this name",
                },
            },
        },
    }


def _describe(schema: dict[str, Any], parameters: Mapping[str, Treatment]) -> None:
    """Say of each field what becomes of it."""
    for name, treatment in parameters.items():
        field = schema["properties"][name]
        said = {"description": f"{treatment.how}: {treatment.why}"}
        schema["properties"][name] = {"allOf": [field], **said} if "$ref" in field else {**field, **said}


def _asking(
    summary: str, request: type[Struct], answer: type[Struct], chunk: type[Struct] | None, example: dict[str, Any]
) -> dict[str, Any]:
    """chunk: what the events of a stream are, None for events of several types."""
    events = f"events, each the JSON of a {chunk.__name__}" if chunk else "OpenAI's typed events"
    return {
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(request), "example": example}},
        },
        "responses": {
            "200": {
                "description": f"the answer; if `stream` is true, {events}",
                "headers": {
                    **_COMMON_HEADERS,
                    "x-sai-model": {"description": "the model that SAI used", "schema": {"type": "string"}},
                },
                "content": {
                    "application/json": {"schema": _ref(answer)},
                    "text/event-stream": {},
                },
            },
            **_errors(kind for kind in ERROR_TABLE if kind not in (UnknownUrl, MethodNotAllowed)),
        },
    }


def _getting(
    summary: str, answer: type[Struct], *, errors: dict[str, Any] | None = None, also: Mapping[int, str] | None = None
) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(answer)}}
    return {
        "summary": summary,
        "security": [],
        "responses": {
            "200": {"description": "the answer", "headers": _COMMON_HEADERS, "content": content},
            **{str(status): {"description": text, "content": content} for status, text in (also or {}).items()},
            **(errors or {}),
        },
    }


def _stored(summary: str, answer: type[Struct], query: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [_ID, *query],
        "responses": {
            "200": {
                "description": "the answer",
                "headers": _COMMON_HEADERS,
                "content": {"application/json": {"schema": _ref(answer)}},
            },
            **_errors(kind for kind in ERROR_TABLE if kind is not MethodNotAllowed),
        },
    }


def _errors(kinds: Iterable[Any]) -> dict[str, Any]:
    """One response for each hundred of statuses; the document's description has the table of them all."""
    hundreds: dict[int, set[int]] = {}
    for kind in kinds:
        status = ERROR_TABLE[kind].status
        hundreds.setdefault(status // 100, set()).add(status)
    return {
        f"{hundred}XX": {
            "description": f"an error: {', '.join(map(str, sorted(statuses)))}",
            "headers": _COMMON_HEADERS,
            "content": {"application/json": {"schema": _ref(ErrorBody)}},
        }
        for hundred, statuses in sorted(hundreds.items())
    }


def _ref(kind: type[Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
