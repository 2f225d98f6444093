"""The one handler in front of SAI: it asks, and relays the answer, whole or as it comes."""

from collections.abc import Awaitable
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from sai_proxy import errors
from sai_proxy.errors.wording import timeout_facts
from sai_proxy.http.draining import Lifecycle
from sai_proxy.keys import ANSWER, RECORD
from sai_proxy.openai_api.failures import FailurePolicy
from sai_proxy.relay.stream import StreamedAnswer
from sai_proxy.relay.whole import whole_answer
from sai_proxy.timeouts import Timeouts


def answer_handler(policy: FailurePolicy, lifecycle: Lifecycle, *, heartbeat_s: float, deadline_s: float) -> Handler:
    """heartbeat_s: silence after which a stream's client hears something. deadline_s: from a request's
    arrival to its answer's end, whatever it waits for."""

    late, heartbeats = partial(_too_late, deadline_s), Timeouts()

    def answer(request: web.Request) -> Awaitable[web.StreamResponse]:
        deadline = request[RECORD].started + deadline_s
        if request[ANSWER].stream:
            return StreamedAnswer(request, policy, heartbeat_s, deadline, heartbeats).run(
                lifecycle.running(deadline, late)
            )
        return whole_answer(request, deadline, lifecycle.running(deadline, late))

    return answer


def _too_late(seconds: float) -> errors.UpstreamTimeout:
    """All the time that a request may take is over."""
    return errors.UpstreamTimeout(timeout_facts(seconds), detail=f"REQUEST_DEADLINE, {seconds:g} s")
