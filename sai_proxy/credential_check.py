"""Asks SAI once with each configured credential, before a rollout does: `python -m sai_proxy check --ask`."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from sai_proxy import errors
from sai_proxy.configuration.settings import Settings
from sai_proxy.conversation.chat import ChatMessage, ChatRequest
from sai_proxy.credentials import Credential
from sai_proxy.errors.table import describe
from sai_proxy.sai_api.client import SaiClient
from sai_proxy.sai_api.roads import make_roads
from sai_proxy.sai_api.sockets import tls_setting
from sai_proxy.telemetry.record import RequestRecord

TIMEOUT_S = 60.0
QUESTION = "Reply with the word: ok"
_STATES: tuple[tuple[type[errors.ProxyError], str], ...] = (
    (errors.AuthenticationFailed, "refused"),
    (errors.PermissionDenied, "refused"),
    (errors.RateLimited, "limited"),
    (errors.UpstreamUnreachable, "unreachable"),
    (errors.UpstreamTimeout, "unreachable"),
    (errors.UpstreamTlsError, "unreachable"),
)


class Finding(NamedTuple):
    """What became of one credential. state: `accepted`, `refused`, `limited`, `unreachable`, `failed`, or `unused` for
    one that the model's road does not let in. said: SAI's words, without the credential."""

    credential: str
    state: str
    seconds: float
    said: str

    @property
    def good(self) -> bool:
        return self.state in ("accepted", "unused")

    def __str__(self) -> str:
        return f"{self.credential}: {self.state}, {self.seconds:.2f} s" + (f" ({self.said})" if self.said else "")


async def check_credentials(settings: Settings, model: str) -> list[Finding]:
    """One question to SAI for each of the server's own credentials. model: one of those that are served."""
    route = settings.models[model]
    client = SaiClient(
        settings.sai_url,
        request_timeout_s=min(settings.request_timeout, TIMEOUT_S),
        connect_timeout_s=settings.sai_connect_timeout,
        idle_timeout_s=settings.stream_idle_timeout,
        max_retries=0,
        retry_statuses=frozenset(),
        max_answer_bytes=settings.max_answer_bytes,
        roads=make_roads(settings.sai_template_inputs),
        targets={route.name},
        tls=tls_setting(verify=settings.sai_tls_verify, ca_file=settings.sai_ca_file),
    )
    chat = ChatRequest(model=model, route=route, conversations=((ChatMessage("user", (QUESTION,)),),))
    try:
        return [await _check(client, chat, name, credential) for name, credential in _configured(settings)]
    finally:
        await client.close()


def _configured(settings: Settings) -> Iterable[tuple[str, Credential]]:
    named = (("SAI_KEY", settings.system_key), ("SAI_COOKIE", settings.system_cookie))
    return [(name, credential) for name, credential in named if credential is not None]


async def _check(client: SaiClient, chat: ChatRequest, name: str, credential: Credential) -> Finding:
    if credential.kind not in chat.route.can.credentials:
        return Finding(name, "unused", 0, f"{chat.model} does not let a {credential.kind} in")
    now = asyncio.get_running_loop().time
    started = now()
    record = RequestRecord(started=started)
    try:
        question = client.question(chat.conversations[0], chat)
        reply = await client.ask(question, credential, record, started + TIMEOUT_S, lambda _: None)
        try:
            while await reply.read() is not None:
                pass
        finally:
            reply.close()
    except errors.ProxyError as exc:
        state = next((state for kind, state in _STATES if isinstance(exc, kind)), "failed")
        said = credential.mask(exc.detail or describe(exc, "en").message)
        return Finding(name, state, now() - started, " ".join(said.split()))
    return Finding(name, "accepted", now() - started, f"model {reply.model}" if reply.model else "")
