"""`GET /v1/models` and `GET /v1/models/{id}`."""

from collections.abc import Collection, Iterable

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sai_proxy.openai_api.codex_models import CodexModel, codex_models


class Model(Struct, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "sai"


class ModelsList(Struct, kw_only=True):
    """models: of Codex alone, which asks with its own version."""

    object: str = "list"
    data: list[Model]
    models: list[CodexModel] | UnsetType = UNSET


def models_body(ids: Iterable[str], created: int) -> bytes:
    """JSON of all models. created: Unix seconds."""
    return msgspec.json.encode(ModelsList(data=[Model(id=name, created=created) for name in ids]))


def models_body_for_codex(ids: Collection[str], created: int, context_window: int) -> bytes:
    """The same, with what Codex wants to know. context_window: tokens."""
    data = [Model(id=name, created=created) for name in ids]
    return msgspec.json.encode(ModelsList(data=data, models=codex_models(ids, context_window)))


def model_body(id: str, created: int) -> bytes:
    """JSON of one model. created: Unix seconds."""
    return msgspec.json.encode(Model(id=id, created=created))
