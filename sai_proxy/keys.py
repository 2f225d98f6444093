"""Every key under which layers and handlers leave something for each other.

| key          | writer                         | readers                                     |
|--------------|--------------------------------|---------------------------------------------|
| REQUEST_ID   | request_id                     | app                                         |
| RECORD       | request_record                 | all layers and handlers, which fill it      |
| HOLDING      | admission                      | request_body, auth_resolution, chat_body, relay |
| BODY         | request_body; chat_body empties | auth_resolution, chat_body                 |
| CREDENTIALS  | auth_resolution                | relay                                       |
| CALLER       | auth_resolution                | answer_store, stored_responses              |
| RECALLED     | answer_store; chat_body empties | chat_body                                  |
| KEEP         | answer_store                   | relay                                       |
| CHAT_REQUEST | chat_body; ide_unwrap replaces; relay lets its text go | ide_unwrap, context_length, relay |
| ANSWER       | chat_body, else request_body   | error_mapping, relay                        |

Of the application, written by `app`: UPSTREAM (SAI, open as long as the application runs), LIFECYCLE
(whether it is about to stop), ADMISSION (what all requests hold), METRICS, and STORE (answers that are kept; only
where they are).
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from sai_proxy.conversation.chat import ChatRequest
from sai_proxy.credentials import Credential
from sai_proxy.http.admission import Admission, Holding
from sai_proxy.http.draining import Lifecycle
from sai_proxy.openai_api.answer_format import AnswerFormat
from sai_proxy.openai_api.kept_responses import Kept, Recalled
from sai_proxy.sai_api.upstream import Upstream
from sai_proxy.store.answer_store import AnswerStore
from sai_proxy.telemetry.accounts import Accounts
from sai_proxy.telemetry.metrics import Metrics
from sai_proxy.telemetry.record import RequestRecord
from sai_proxy.workers.link import Link

REQUEST_ID = web.RequestKey("REQUEST_ID", str)
RECORD = web.RequestKey("RECORD", RequestRecord)
ANSWER: web.RequestKey[AnswerFormat] = web.RequestKey("ANSWER")
CHAT_REQUEST = web.RequestKey("CHAT_REQUEST", ChatRequest)
BODY: web.RequestKey[bytes | bytearray] = web.RequestKey("BODY")
HOLDING = web.RequestKey("HOLDING", Holding)
CREDENTIALS: web.RequestKey[tuple[Credential, ...]] = web.RequestKey("CREDENTIALS")
CALLER = web.RequestKey("CALLER", str)
"""Who asks, as a keyed hash of their credential."""
RECALLED: web.RequestKey[Recalled] = web.RequestKey("RECALLED")
KEEP: web.RequestKey[Callable[[Kept], Awaitable[None]]] = web.RequestKey("KEEP")

CONTENT: frozenset[object] = frozenset({BODY, RECALLED, KEEP, CHAT_REQUEST, ANSWER})
"""What was asked, and its answer: let go when the request ends, since a connection keeps its last request."""

UPSTREAM: web.AppKey[Upstream] = web.AppKey("UPSTREAM")
ADMISSION = web.AppKey("ADMISSION", Admission)
STORE = web.AppKey("STORE", AnswerStore)
ACCOUNTS = web.AppKey("ACCOUNTS", Accounts)
METRICS = web.AppKey("METRICS", Metrics)
LIFECYCLE = web.AppKey("LIFECYCLE", Lifecycle)
LINK = web.AppKey("LINK", Link)
"""To the parent process, of one of several workers."""
