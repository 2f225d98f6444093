"""What a message may hold beside text, by what the model that is asked can read."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from sai_proxy.conversation.chat import ChatMessage, Image, Route
from sai_proxy.errors import ArrayTooLong, InvalidType, InvalidValue, UnsupportedContent
from sai_proxy.openai_api.decoding import decode_field
from sai_proxy.openai_api.raw import kind_of

IMAGES = ("image_url", "input_image")
MAX_IMAGES = 100
"""Of one request."""


class ImageUrl(Struct):
    url: str
    detail: str | None = None


_url_decoder = msgspec.json.Decoder(str | ImageUrl)


class ContentRules(NamedTuple):
    """Of a request. model: its model's name. routes: the models that are served."""

    model: str
    routes: Mapping[str, Route]

    @property
    def images(self) -> bool:
        """Whether the model reads them."""
        return self.routes[self.model].can.images

    def refusal(self, kind: str, param: str) -> UnsupportedContent:
        """The error for a part that the model cannot read; it names one that can, if there is any."""
        able = [name for name, route in self.routes.items() if kind in IMAGES and route.can.images]
        facts = {"kind": kind, "model": self.model}
        if self.model in able:
            facts |= {"instead_es": "ponla en un mensaje 'user', o ", "instead_en": "put it into a 'user' message, or "}
        elif able:
            facts |= {
                "instead_es": f"usa el modelo '{able[0]}', que lee imágenes, o ",
                "instead_en": f"ask '{able[0]}', which reads images, or ",
            }
        return UnsupportedContent(facts, param=param)

    def image(self, url: Raw, detail: str | None, before: int, kind: str, param: str) -> Image:
        """A picture. url: a string, or an object with `url` and `detail`. Raises InvalidRequest."""
        if not self.images:
            raise self.refusal(kind, param)
        if kind_of(url) not in ("string", "object"):
            raise InvalidType({"expected": "string | object", "found": kind_of(url)}, param=param)
        found = decode_field(url, _url_decoder, param)
        image = ImageUrl(found, detail) if isinstance(found, str) else found
        if not image.url.startswith(("https://", "http://", "data:image/")):
            problem = {"problem_en": "neither a URL nor data:image/", "problem_es": "ni una URL ni data:image/"}
            raise InvalidValue(problem, param=param)
        return Image(before, image.url, image.detail)


def check_images(messages: Iterable[ChatMessage], param: str) -> None:
    """Raises ArrayTooLong for more pictures than one request may have."""
    images = 0
    for message in messages:
        if message.images:
            images += len(message.images)
    if images > MAX_IMAGES:
        raise ArrayTooLong({"limit": MAX_IMAGES}, param=param)
