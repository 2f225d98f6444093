"""`GET /v1/models` and `GET /v1/models/{id}`."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct


class Model(Struct, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "sai"


class ModelsList(Struct, kw_only=True):
    object: str = "list"
    data: list[Model]


def models_body(ids: Iterable[str], created: int) -> bytes:
    """JSON of all models. created: Unix seconds."""
    return msgspec.json.encode(ModelsList(data=[Model(id=name, created=created) for name in ids]))


def model_body(id: str, created: int) -> bytes:
    """JSON of one model. created: Unix seconds."""
    return msgspec.json.encode(Model(id=id, created=created))
