"""The roads to a model, each one of SAI's endpoints, by the names that `SAI_MODELS` has for them. Pure."""

from collections.abc import Collection, Mapping

from sai_proxy.sai_api.chat import ChatRoad
from sai_proxy.sai_api.prompt import PromptRoad
from sai_proxy.sai_api.road import Road
from sai_proxy.sai_api.stream import StreamRoad
from sai_proxy.sai_api.template import TemplateRoad

DEFAULT_ROAD = "template"


def make_roads(template_inputs: Collection[str] = ()) -> Mapping[str, Road]:
    """template_inputs: names of the inputs that the templates have."""
    return {
        "template": TemplateRoad(template_inputs),
        "chat": ChatRoad(),
        "stream": StreamRoad(),
        "prompt": PromptRoad(),
    }
