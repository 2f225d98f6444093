"""Environment variables to `Settings`, every fault collected, and back to text with secrets masked.

Reading secret files is the only I/O. An empty variable counts as not set, since compose files pass
empty strings for what `.env` lacks.
"""

import os
import re
import ssl
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar, get_type_hints
from urllib.parse import parse_qsl, urlsplit

import msgspec
from dotenv.parser import parse_stream

from sai_proxy.configuration.misspelt import Misspelt, misspelt_names
from sai_proxy.configuration.settings import DEFAULT_PORT, Settings
from sai_proxy.conversation.chat import Route
from sai_proxy.credentials import Credential, make_credential
from sai_proxy.errors import CredentialUnusable
from sai_proxy.sai_api.road import Road
from sai_proxy.sai_api.roads import DEFAULT_ROAD, make_roads

T = TypeVar("T")

REQUIRED_INPUTS = frozenset({"system", "user"})
TEMPLATE_INPUTS = REQUIRED_INPUTS | {"tools", "tool", "type", "api"}

SECRETS_DIR = Path("/run/secrets")
NO_CREDENTIAL = "none"
"""What SAI_KEY or SAI_COOKIE says where it has to exist, as a Swarm's secrets must, but there is none."""

_SECONDS = "a number of seconds above 0, at most 86400"
_SECONDS_OR_NONE = "a number of seconds from 0 to 86400"
_COUNT = "a whole number of at least 1"
_SWITCH = "true or false"
_STORES = (
    "none, memory, redis://[user:password@]host[:port][/database], rediss://..., unix:///path; behind ? db, username, "
    "password, client_name, and of rediss ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, ssl_check_hostname"
)

PLAIN_VARIABLES: dict[str, str] = {
    "HOST": "an address to listen on",
    "PORT": "a port number from 1 to 65535",
    "REQUEST_TIMEOUT": _SECONDS,
    "REQUEST_DEADLINE": _SECONDS,
    "MAX_RETRIES": "a whole number from 0 to 20",
    "SAI_CONNECT_TIMEOUT": _SECONDS,
    "STREAM_IDLE_TIMEOUT": _SECONDS,
    "CONTEXT_LIMIT_TOKENS": _COUNT,
    "CONTEXT_OVERFLOW": "length or error",
    "ERROR_STYLE": "openai or message",
    "MESSAGES_LANG": "es or en",
    "IDE_UNWRAP": _SWITCH,
    "SAI_TLS_VERIFY": _SWITCH,
    "SAI_CA_FILE": "the path of a PEM file",
    "MAX_BODY_BYTES": _COUNT + " (bytes)",
    "MAX_BUFFERED_BYTES": _COUNT + " (bytes)",
    "MAX_ANSWER_BYTES": _COUNT + " (bytes)",
    "MAX_CONCURRENT_REQUESTS": _COUNT,
    "MAX_CONCURRENT_PER_KEY": _COUNT,
    "MAX_CONNECTIONS": _COUNT,
    "BODY_TIMEOUT": _SECONDS,
    "WRITE_TIMEOUT": _SECONDS,
    "STREAM_CHUNK_CHARS": _COUNT,
    "RESPONSES_STORE_BYTES": _COUNT + " (bytes)",
    "RESPONSES_STORE_SECONDS": _SECONDS,
    "HEARTBEAT_SECONDS": _SECONDS,
    "SHUTDOWN_TIMEOUT": _SECONDS_OR_NONE,
    "DRAIN_DELAY": _SECONDS_OR_NONE,
    "METRICS_PORT": "a port number from 1 to 65535",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "the base URL of an OTLP/HTTP collector",
    "LOG_FILE": "the path of a file",
    "LOG_FORMAT": "auto, text or json",
    "VERBOSE_LOGGING": _SWITCH,
}
"""Variables that a field takes as they are, with what is allowed in them."""

COMPOSED_VARIABLES = (
    *("SAI_URL", "SAI_TEMPLATE_ID", "SAI_MODELS", "SAI_KEY", "SAI_KEY_FILE", "SAI_COOKIE", "SAI_COOKIE_FILE"),
    *("ACCESS_TOKENS", "ACCESS_TOKENS_FILE", "PLACEHOLDER_KEYS", "CORS_ORIGINS", "RETRY_STATUSES"),
    *("SAI_TEMPLATE_INPUTS", "RESPONSES_STORE", "RESPONSES_STORE_FILE", "KEY_ID_SALT", "KEY_ID_SALT_FILE"),
    *("TRUSTED_PROXIES", "WORKERS"),
)
VARIABLES = frozenset({*PLAIN_VARIABLES, *COMPOSED_VARIABLES})

PLACEHOLDERS = {
    "SAI_URL": "https://address-of-your-sai.example.com",
    "SAI_TEMPLATE_ID": "id-of-your-template",
    "ACCESS_TOKENS": "a-long-random-token",
}
"""What stands in `.env.example`."""

_MODEL = re.compile(r"(?P<name>[^=@]+)(?:=(?:(?P<road>[a-z]+):)?(?P<target>[^=@]*))?(?:@(?P<override>[^@]+))?")
_OPTIONS = {"db": r"\d+", "username": ".+", "password": ".+", "client_name": r"[!-~]+"}
_TLS_OPTIONS = {
    **dict.fromkeys(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), ".+"),
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": "(?i:true|false)",
}
_REDIS_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "redis": _OPTIONS,
    "rediss": {**_OPTIONS, **_TLS_OPTIONS},
    "unix": _OPTIONS,
}
"""By scheme, what may stand behind ? in a Redis' URL. Its library takes any name, and fails at the first use."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,]+")
_TEMPLATE_ID = re.compile(r"[A-Za-z0-9_-]+")
_UNKNOWN_TEMPLATE = "SAI_TEMPLATE_ID-is-not-set"
"""In place of SAI_TEMPLATE_ID where it is missing, which is a fault of its own."""


MAX_WORKERS = 64


def usable_cores() -> int:
    """Cores that this process may use: those it may run on, or as many as its container's quota is worth. Source:
    cgroups v2, cpu.max."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(min(cores, int(quota) // int(period)), 1)
    except (OSError, ValueError):  # no such file, or no limit: "max"
        return cores


class ConfigurationFault(Exception):
    """The environment does not make a configuration. `faults`: one line each, without secrets."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def with_env_file(environ: Mapping[str, str], path: str | None) -> Mapping[str, str]:
    """`environ` and, for what it lacks, the variables of a `.env` file. Values are taken as they
    stand: nothing in them is expanded. Raises ConfigurationFault."""
    return {**env_file(path), **environ}


def env_file(path: str | None) -> Mapping[str, str]:
    """The variables of a `.env` file, none without one. Raises ConfigurationFault."""
    if path is None:
        return {}
    try:
        with Path(path).open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as exc:
        problem = getattr(exc, "strerror", None) or "not text"
        raise ConfigurationFault([f"{path}: cannot be read ({problem})"]) from exc
    faults = [f"{path}, line {b.original.line}: not of the form NAME=value" for b in bindings if b.error]
    if faults:
        raise ConfigurationFault(faults)
    return {b.key: b.value for b in bindings if b.key and b.value is not None}


def misspelt(environ: Mapping[str, str], path: str | None) -> list[Misspelt]:
    """Names that nobody reads, with those that were probably meant. Raises ConfigurationFault for the file, and for
    a name whose absence would open the server."""
    found = misspelt_names(environ, env_file(path), path or ".env", VARIABLES)
    dangerous = [name for name in found if name.dangerous]
    if dangerous:
        raise ConfigurationFault([f"{name} Without it, the server would be open." for name in dangerous])
    return found


def read_settings(environ: Mapping[str, str], secrets_dir: Path = SECRETS_DIR) -> Settings:
    """Settings from environment variables. Raises ConfigurationFault with all that is wrong."""
    not_text = [name for name, value in environ.items() if name in VARIABLES and not _is_text(value)]
    if not_text:
        raise ConfigurationFault([f"{name}: found bytes that are not UTF-8; allowed: text" for name in not_text])
    return _Reader({name: value for name, value in environ.items() if value.strip()}, secrets_dir).read()


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Reader:
    """One pass over the environment, collecting faults on the way."""

    def __init__(self, environ: Mapping[str, str], secrets_dir: Path) -> None:
        self.environ = environ
        self.secrets_dir = secrets_dir
        self.faults: list[str] = []

    def read(self) -> Settings:
        values: dict[str, Any] = self._plain()
        values["sai_url"] = self._required("SAI_URL", _read_url, "an http:// or https:// address without user name")
        if "SAI_TEMPLATE_INPUTS" in self.environ:
            values["sai_template_inputs"] = self._template_inputs(self.environ["SAI_TEMPLATE_INPUTS"])
        roads = make_roads(values.get("sai_template_inputs", REQUIRED_INPUTS))
        values["sai_template_id"] = self._template_id()
        self._refuse_placeholders()
        values["models"] = self._models(values["sai_template_id"] or "", roads)
        if "SAI_TEMPLATE_ID" not in self.environ and any(
            r.target == _UNKNOWN_TEMPLATE for r in values["models"].values()
        ):
            self.faults.append("SAI_TEMPLATE_ID: not set; allowed: letters, digits, - and _")
        values["system_key"] = self._credential("SAI_KEY", cookie=False)
        values["system_cookie"] = self._credential("SAI_COOKIE", cookie=True)
        values["access_tokens"] = self._access_tokens()
        if "RETRY_STATUSES" in self.environ:
            values["retry_statuses"] = self._retry_statuses(self.environ["RETRY_STATUSES"])
        if "PLACEHOLDER_KEYS" in self.environ:
            values["placeholder_keys"] = frozenset(map(str.lower, _items(self.environ["PLACEHOLDER_KEYS"])))
        if not (
            values["system_key"]
            or values["system_cookie"]
            or any("SAI_KEY" in f or "SAI_COOKIE" in f for f in self.faults)
        ):
            self.faults.append("SAI_KEY, SAI_COOKIE: neither is set; at least one of them is required")
        values["responses_store"] = self._responses_store()
        values["key_id_salt"] = self._secret("KEY_ID_SALT")
        values["cors_origins"] = self._origins()
        values["trusted_proxies"] = self._networks()
        values["workers"] = self._workers()
        self._check_ca_file(values.get("sai_ca_file"))
        self._check_ports(values)
        if self.faults:
            raise ConfigurationFault(self.faults)
        return Settings(**values)

    def _workers(self) -> int:
        text = self.environ.get("WORKERS", "1").strip()
        if text == "auto":
            return min(usable_cores(), MAX_WORKERS)
        if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MAX_WORKERS):
            self._fault("WORKERS", text, f"a whole number from 1 to {MAX_WORKERS}, or auto")
            return 1
        return int(text)

    def _check_ca_file(self, path: str | None) -> None:
        try:
            if path is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except (OSError, ValueError):
            self._fault("SAI_CA_FILE", path or "", "the path of a PEM file with certificates")

    def _check_ports(self, values: Mapping[str, Any]) -> None:
        if "metrics_port" in values and values["metrics_port"] == values.get("port", DEFAULT_PORT):
            self._fault("METRICS_PORT", str(values["metrics_port"]), "a port other than PORT, or the variable unset")

    def _plain(self) -> dict[str, Any]:
        types = get_type_hints(Settings, include_extras=True)
        values: dict[str, Any] = {}
        for variable, allowed in PLAIN_VARIABLES.items():
            text = self.environ.get(variable)
            if text is None:
                continue
            try:
                values[variable.lower()] = msgspec.convert(text.strip(), types[variable.lower()], strict=False)
            except msgspec.ValidationError:
                self._fault(variable, text, allowed)
        return values

    def _required(self, variable: str, parse: Callable[[str], T | None], allowed: str) -> T | None:
        text = self.environ.get(variable)
        if text is None:
            self.faults.append(f"{variable}: not set; required: {allowed}")
            return None
        value = parse(text.strip())
        if value is None:
            self._fault(variable, text if "@" not in text else "(an address with a user name)", allowed)
        return value

    def _models(self, default_template: str, roads: Mapping[str, Road]) -> dict[str, Route]:
        models: dict[str, Route] = {}
        for item in _items(self.environ.get("SAI_MODELS", "sai-model")):
            match = _MODEL.fullmatch(item)
            route = self._route(match, default_template, roads) if match and match["name"] not in models else None
            if match is None or route is None:
                forms = ", ".join(road.form for road in roads.values())
                self._fault("SAI_MODELS", item, f"name[=ID][@MODEL] or name=ROAD, each name once; roads: {forms}")
                continue
            models[match["name"]] = route
        if not models and not any("SAI_MODELS" in fault for fault in self.faults):
            self._fault("SAI_MODELS", self.environ["SAI_MODELS"], "at least one model name")
        return models

    def _route(self, match: re.Match[str], default_template: str, roads: Mapping[str, Road]) -> Route | None:
        """None for one that is malformed."""
        road = roads.get(match["road"] or DEFAULT_ROAD)
        target = match["target"] or ("" if match["road"] else default_template or _UNKNOWN_TEMPLATE)
        if not match["road"] and target in roads:
            return None  # a road without its target, rather than a template of that name
        return road.route(target, match["override"]) if road is not None else None

    def _access_tokens(self) -> frozenset[str]:
        """A list without a token in it, as of two variables that are both empty, must not open the server."""
        text = self._secret("ACCESS_TOKENS")
        tokens = frozenset(_items(text or ""))
        if text and not tokens:
            self._fault("ACCESS_TOKENS", text, "at least one token, or the variable unset, which lets everyone in")
        return tokens

    def _responses_store(self) -> str:
        """A URL that may hold a password is not shown."""
        text = self._secret("RESPONSES_STORE") or "memory"
        if text.lower() in ("none", "memory"):
            return text.lower()
        if not _is_redis_url(text):
            found = "a URL that cannot be used" if re.search(r"[@?]", text) else text
            self._fault("RESPONSES_STORE", found, _STORES)
        return text

    def _refuse_placeholders(self) -> None:
        """What `.env.example` has in their place must have been replaced."""
        for variable, text in PLACEHOLDERS.items():
            if text in self.environ.get(variable, ""):
                self._fault(variable, text, "a value of your own in place of the example's")

    def _template_id(self) -> str | None:
        text = self.environ.get("SAI_TEMPLATE_ID", "").strip()
        if text and not _TEMPLATE_ID.fullmatch(text):
            self._fault("SAI_TEMPLATE_ID", text, "letters, digits, - and _")
            return None
        return text or None

    def _template_inputs(self, text: str) -> frozenset[str]:
        names = frozenset(_items(text))
        if not REQUIRED_INPUTS <= names <= TEMPLATE_INPUTS:
            self._fault("SAI_TEMPLATE_INPUTS", text, "system and user, and of tools, tool, type, api what it has")
        return names

    def _retry_statuses(self, text: str) -> frozenset[int]:
        if text.strip().lower() == NO_CREDENTIAL:
            return frozenset()
        statuses = _items(text)
        if not all(re.fullmatch(r"5\d\d", status) and status != "504" for status in statuses):
            self._fault("RETRY_STATUSES", text, "statuses from 500 to 599 but not 504, comma-separated, or none")
            return frozenset()
        return frozenset(map(int, statuses))

    def _origins(self) -> frozenset[str]:
        origins = _items(self.environ.get("CORS_ORIGINS", ""))
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                self._fault("CORS_ORIGINS", origin, "* or scheme://host[:port], comma-separated, without a path")
        return frozenset(origins)

    def _networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        networks = []
        for item in _items(self.environ.get("TRUSTED_PROXIES", "")):
            try:
                networks.append(ip_network(item))
            except ValueError:
                self._fault("TRUSTED_PROXIES", item, "networks such as 10.0.0.0/8 or addresses, comma-separated")
        return tuple(networks)

    def _credential(self, variable: str, *, cookie: bool) -> Credential | None:
        text = self._secret(variable)
        if text is None or text.lower() == NO_CREDENTIAL:
            return None
        try:
            return make_credential(text, "system", cookie=cookie)
        except CredentialUnusable:
            self.faults.append(
                f"{variable}: found text that cannot be an HTTP header's value; allowed: printable ASCII"
            )
            return None

    def _secret(self, variable: str) -> str | None:
        """The variable's value, or the content of the file that it, `<variable>_FILE` or the
        secrets folder names."""
        text = self.environ.get(variable)
        file = self.environ.get(f"{variable}_FILE")
        if text and file:
            self.faults.append(f"{variable}, {variable}_FILE: both are set; allowed: one of them")
            return None
        if text and not text.strip().startswith(f"{self.secrets_dir}/"):
            return text.strip()
        path = Path((text or file or "").strip() or self.secrets_dir / variable)
        if not (text or file or path.is_file()):
            return None
        source = variable if text or not file else f"{variable}_FILE"
        try:
            content = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            problem = getattr(exc, "strerror", None) or "not text"
            self.faults.append(f"{source}: the file '{path}' cannot be read ({problem})")
            return None
        if not content:
            self.faults.append(f"{source}: the file '{path}' is empty")
            return None
        return content

    def _fault(self, variable: str, found: str, allowed: str) -> None:
        self.faults.append(f"{variable}: found '{found[:200]}'; allowed: {allowed}")


def _items(text: str) -> list[str]:
    return [item.strip() for item in re.split(r"[,\n]", text) if item.strip()]


def _read_url(text: str) -> str | None:
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        return None
    return text.rstrip("/") if usable and not re.search(r"[\s@?#]", text) else None


def _is_redis_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        host = url.path if url.scheme == "unix" else url.hostname
        options = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        usable = url.scheme in _REDIS_OPTIONS and host and url.port != 0 and not url.fragment
    except ValueError:
        return False
    known = _REDIS_OPTIONS.get(url.scheme, {})
    return bool(
        usable
        and not re.search(r"\s", text)
        and (url.scheme == "unix" or re.fullmatch(r"/?|/\d+", url.path))
        and all(name in known and re.fullmatch(known[name], value) for name, value in options)
    )


def shown_settings(settings: Settings) -> list[str]:
    """`NAME=value` lines of the effective configuration, fit for a terminal: no secret in them."""
    lines = [f"SAI_URL={settings.sai_url}", f"SAI_TEMPLATE_ID={_shown(settings.sai_template_id)}"]
    lines += [f"SAI_KEY={_masked(settings.system_key)}", f"SAI_COOKIE={_masked(settings.system_cookie)}"]
    lines.append("SAI_MODELS=" + ",".join(_shown_model(name, route) for name, route in settings.models.items()))
    lines.append(f"ACCESS_TOKENS={f'(set, {len(settings.access_tokens)})' if settings.access_tokens else '(not set)'}")
    lines.append("PLACEHOLDER_KEYS=" + ",".join(sorted(settings.placeholder_keys)))
    lines.append("SAI_TEMPLATE_INPUTS=" + ",".join(sorted(settings.sai_template_inputs)))
    lines.append("RETRY_STATUSES=" + (",".join(map(str, sorted(settings.retry_statuses))) or NO_CREDENTIAL))
    lines.append("TRUSTED_PROXIES=" + (",".join(map(str, settings.trusted_proxies)) or "(not set)"))
    lines.append("CORS_ORIGINS=" + (",".join(sorted(settings.cors_origins)) or "(not set)"))
    lines.append(f"RESPONSES_STORE={_shown_store(settings.responses_store)}")
    lines.append(f"KEY_ID_SALT={'(set)' if settings.key_id_salt else '(not set)'}")
    lines.append(f"WORKERS={settings.workers}")
    lines += [f"{variable}={_shown(getattr(settings, variable.lower()))}" for variable in PLAIN_VARIABLES]
    return lines


def _masked(credential: Credential | None) -> str:
    return "(not set)" if credential is None else f"(set, {len(credential.value)} characters)"


def _shown_store(store: str) -> str:
    """A URL without its user, password and options."""
    url = urlsplit(store)
    place = url.netloc.rpartition("@")
    return f"{url.scheme}://{'***@' if place[1] else ''}{place[2]}{url.path}" if url.scheme else store


def _shown_model(name: str, route: Route) -> str:
    road = "" if route.road == DEFAULT_ROAD else f"{route.road}:"
    return f"{name}={road}{route.target}" + (f"@{route.override}" if route.override else "")


def _shown(value: object) -> str:
    if value is None:
        return "(not set)"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
