"""The configuration: one frozen object, read once from the environment."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sai_proxy.conversation.chat import Route
from sai_proxy.credentials import Credential
from sai_proxy.errors.table import Language

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]

DEFAULT_PORT = 4000


class Settings(Struct, frozen=True, kw_only=True):
    """What `environment` reads. Durations are in seconds, sizes in bytes; a plain field's variable is
    its name in capitals."""

    sai_url: str
    sai_template_id: str | None = None
    system_key: Credential | None = None
    system_cookie: Credential | None = None
    models: Mapping[str, Route]
    sai_template_inputs: frozenset[str] = frozenset({"system", "user"})
    host: str = "0.0.0.0"
    port: Port = DEFAULT_PORT
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    request_timeout: Seconds = 600
    request_deadline: Seconds = 900
    max_retries: Annotated[int, Meta(ge=0, le=20)] = 3
    retry_statuses: frozenset[int] = frozenset({503})
    sai_connect_timeout: Seconds = 10
    stream_idle_timeout: Seconds = 120
    context_limit_tokens: Count = 128_000
    context_overflow: Literal["length", "error"] = "length"
    error_style: Literal["openai", "message"] = "openai"
    messages_lang: Language = "es"
    access_tokens: frozenset[str] = frozenset()
    placeholder_keys: frozenset[str] = frozenset({"raspberry"})
    ide_unwrap: bool = True
    sai_tls_verify: bool = True
    sai_ca_file: str | None = None
    max_body_bytes: Count = 16 * 1024 * 1024
    max_buffered_bytes: Count = 64 * 1024 * 1024
    max_answer_bytes: Count = 64 * 1024 * 1024
    max_concurrent_requests: Count = 1_000
    max_concurrent_per_key: Count | None = None
    max_connections: Count = 4_096
    body_timeout: Seconds = 60
    write_timeout: Seconds = 60
    stream_chunk_chars: Count = 256
    heartbeat_seconds: Seconds = 10
    shutdown_timeout: SecondsOrNone = 30
    drain_delay: SecondsOrNone = 0
    responses_store: str = "memory"
    responses_store_bytes: Count = 32 * 1024 * 1024
    responses_store_seconds: Seconds = 3_600
    key_id_salt: str | None = None
    cors_origins: frozenset[str] = frozenset()
    metrics_port: Port | None = None
    otel_exporter_otlp_endpoint: str | None = None
    log_file: str | None = None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    log_format: Literal["auto", "text", "json"] = "auto"
    verbose_logging: bool = False

    @property
    def keeps_answers(self) -> bool:
        """Whether answers are kept for later requests."""
        return self.responses_store != "none"

    def __repr__(self) -> str:
        return f"<Settings for {self.host}:{self.port}>"  # some fields are secret
