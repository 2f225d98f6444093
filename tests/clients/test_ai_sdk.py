"""The Vercel AI SDK."""

from tests.clients.contract import ClientContract
from tests.clients.node_script import NodeScript, needs_node


class AiSdk(NodeScript):
    script = "ai-sdk"


@needs_node
class TestAiSdk(ClientContract):
    """In mid-stream it hands on our error object as it is, without a class of its own."""

    client = AiSdk
    errors = dict.fromkeys((400, 401, 403, 404, 409, 429, 502, 504), "AI_APICallError")
    broken = "none"
