"""`GET /v1/models` and `GET /v1/models/{id}`, with what each model can, which strict clients ignore."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sai_proxy.conversation.chat import Route
from sai_proxy.openai_api.codex_models import CodexModel, codex_models


class Capabilities(Struct, kw_only=True):
    """streaming: `live` if text comes as the model writes it. tools: `native` if the model's own, `emulated` if asked
    for and read in text. context_length: tokens. road: which of SAI's endpoints answers."""

    streaming: Literal["live", "buffered"]
    tools: Literal["native", "emulated"]
    images: bool
    context_length: int
    road: str


class Model(Struct, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "sai"
    capabilities: Capabilities


class ModelsList(Struct, kw_only=True):
    """models: for Codex alone, which asks with its own version."""

    object: str = "list"
    data: list[Model]
    models: list[CodexModel] | UnsetType = UNSET


def model_of(name: str, route: Route, created: int, context_length: int) -> Model:
    """created: Unix seconds. context_length: tokens."""
    can = route.can
    capabilities = Capabilities(
        streaming="live" if can.live else "buffered",
        tools="native" if can.tools == "native" else "emulated",
        images=can.images,
        context_length=context_length,
        road=route.road,
    )
    return Model(id=name, created=created, capabilities=capabilities)


def listed_models(routes: Mapping[str, Route], context_length: int) -> list[Model]:
    """All models, for whoever does not care when they were made."""
    return [model_of(name, route, 0, context_length) for name, route in routes.items()]


def models_body(routes: Mapping[str, Route], created: int, context_length: int, *, for_codex: bool = False) -> bytes:
    """JSON of all models; for_codex: with what Codex wants to know."""
    data = [model_of(name, route, created, context_length) for name, route in routes.items()]
    return msgspec.json.encode(
        ModelsList(data=data, models=codex_models(routes, context_length) if for_codex else UNSET)
    )


def model_body(name: str, route: Route, created: int, context_length: int) -> bytes:
    """JSON of one model."""
    return msgspec.json.encode(model_of(name, route, created, context_length))
