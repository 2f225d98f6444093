"""openai-node."""

from tests.clients.contract import OPENAI_ERRORS, ClientContract
from tests.clients.node_script import NodeScript, needs_node


class OpenAiNode(NodeScript):
    script = "openai"


@needs_node
class TestOpenAiNode(ClientContract):
    client = OpenAiNode
    errors = OPENAI_ERRORS
    broken = "APIError"
