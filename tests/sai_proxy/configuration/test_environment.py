from pathlib import Path

import pytest
from redis.asyncio import ConnectionPool

from sai_proxy.configuration.environment import (
    PLAIN_VARIABLES,
    ConfigurationFault,
    read_settings,
    shown_settings,
    usable_cores,
    with_env_file,
)
from sai_proxy.configuration.settings import Settings
from sai_proxy.conversation.chat import Route
from tests.support import environment

URL = "https://sai.example.com"


def faults(**changes: str) -> list[str]:
    with pytest.raises(ConfigurationFault) as caught:
        read_settings(environment(URL, **changes), Path("/nonexistent"))
    return caught.value.faults


def test_defaults() -> None:
    settings = read_settings({"SAI_URL": URL + "/", "SAI_TEMPLATE_ID": "t1", "SAI_KEY": "k"}, Path("/nonexistent"))
    assert settings.sai_url == URL
    assert (settings.host, settings.port) == ("0.0.0.0", 4000)
    assert (settings.request_timeout, settings.max_retries) == (600, 3)
    assert (settings.sai_connect_timeout, settings.stream_idle_timeout) == (10, 120)
    assert settings.models == {"sai-model": Route("t1")}
    assert (settings.context_limit_tokens, settings.context_overflow) == (128_000, "length")
    assert (settings.error_style, settings.messages_lang) == ("openai", "es")
    assert settings.access_tokens == frozenset()
    assert settings.placeholder_keys == {"raspberry"}
    assert (settings.ide_unwrap, settings.sai_tls_verify, settings.sai_ca_file) == (True, True, None)
    assert settings.max_body_bytes == 16 * 1024 * 1024
    assert (settings.stream_chunk_chars, settings.heartbeat_seconds) == (256, 10)
    assert (settings.shutdown_timeout, settings.drain_delay) == (30, 0)
    assert (settings.log_file, settings.verbose_logging) == (None, False)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("HOST", "127.0.0.1", "127.0.0.1"),
        ("PORT", "8080", 8080),
        ("REQUEST_TIMEOUT", "1.5", 1.5),
        ("MAX_RETRIES", "0", 0),
        ("CONTEXT_OVERFLOW", "error", "error"),
        ("ERROR_STYLE", "message", "message"),
        ("MESSAGES_LANG", "en", "en"),
        ("IDE_UNWRAP", "false", False),
        ("VERBOSE_LOGGING", "True", True),
        ("LOG_FILE", "/tmp/x.log", "/tmp/x.log"),
        ("STREAM_CHUNK_CHARS", " 10 ", 10),
        ("PORT", "", 4000),
        ("WORKERS", "", 1),
        ("WORKERS", "3", 3),
        ("WORKERS", "auto", usable_cores()),
    ],
)
def test_a_variable_reaches_its_field(variable: str, text: str, value: object) -> None:
    assert getattr(read_settings(environment(URL, **{variable: text})), variable.lower()) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("METRICS_PORT", "4000"),
        ("MAX_BUFFERED_BYTES", "0"),
        ("REQUEST_TIMEOUT", "0"),
        ("REQUEST_TIMEOUT", "nan"),
        ("REQUEST_TIMEOUT", "soon"),
        ("MAX_RETRIES", "-1"),
        ("CONTEXT_OVERFLOW", "maybe"),
        ("ERROR_STYLE", "html"),
        ("MESSAGES_LANG", "fr"),
        ("IDE_UNWRAP", "yes please"),
        ("MAX_BODY_BYTES", "16MiB"),
        ("SAI_URL", "sai.example.com"),
        ("SAI_URL", "ftp://sai.example.com"),
        ("SAI_URL", "https://sai.example.com:port"),
        ("SAI_TEMPLATE_ID", "a/b"),
        ("SAI_MODELS", "a,a"),
        ("SAI_MODELS", "=t"),
        ("SAI_MODELS", "vivo=river:x"),
        ("SAI_MODELS", "vivo=stream:"),
        ("SAI_MODELS", "vivo=stream"),
        ("SAI_MODELS", "vivo=stream:claude@flat"),
        ("SAI_MODELS", "nativo=prompt:gpt-4o@flat+nested"),
        ("SAI_MODELS", "c=chat:a/b"),
        ("SAI_CA_FILE", "/no/such/file"),
        ("CORS_ORIGINS", "https://a.example.com/path"),
        ("CORS_ORIGINS", "a.example.com"),
        ("SAI_CA_FILE", __file__),
        ("RESPONSES_STORE", "disk"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "balancer"),
        ("WORKERS", "0"),
        ("WORKERS", "65"),
        ("WORKERS", "-1"),
        ("WORKERS", "two"),
        ("LOG_FORMAT", "xml"),
        ("RESPONSES_STORE", "redis://"),
        ("RESPONSES_STORE", "http://store:6379"),
        ("RESPONSES_STORE", "redis://store:port"),
        ("RESPONSES_STORE", "redis://store/zero"),
        ("RESPONSES_STORE", "redis://store#1"),
        ("RESPONSES_STORE_BYTES", "0"),
        ("SAI_URL", "http://exa mple.com"),
        ("SAI_URL", "http://host:0"),
        ("SAI_URL", "http://host/x y"),
        ("SAI_URL", "http://host/?key=1"),
    ],
)
def test_a_malformed_value_is_one_line_with_name_finding_and_what_is_allowed(variable: str, text: str) -> None:
    (line,) = faults(**{variable: text})
    assert line.startswith(f"{variable}: ")
    assert text.split(",")[0] in line
    assert "allowed: " in line
    assert "\n" not in line


def test_bytes_that_are_no_text_are_a_fault() -> None:
    (line,) = faults(ACCESS_TOKENS="tok\udcff")
    assert line == "ACCESS_TOKENS: found bytes that are not UTF-8; allowed: text"


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationFault) as caught:
        read_settings({"PORT": "x"}, Path("/nonexistent"))
    assert [line.split(":")[0] for line in caught.value.faults] == [
        "PORT",
        "SAI_URL",
        "SAI_TEMPLATE_ID",
        "SAI_KEY, SAI_COOKIE",
    ]


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    (line,) = faults(SAI_URL="https://user:pa55@sai.example.com")
    assert "pa55" not in line


def test_models_have_templates_and_overrides() -> None:
    settings = read_settings(
        environment(URL, SAI_MODELS="a, b=t2, c@gpt/5.2, d=t4@claude-sonnet", SAI_TEMPLATE_ID="t1")
    )
    assert settings.models == {
        "a": Route("t1"),
        "b": Route("t2"),
        "c": Route("t1", "gpt/5.2"),
        "d": Route("t4", "claude-sonnet"),
    }


def test_models_have_roads_and_options_and_are_shown_as_they_were_given() -> None:
    entries = "a=template:t2@gpt/5.2,b=chat:t3@both,c=stream:claude-sonnet-4-6,d=prompt:gpt-5.2@nested+no-images"
    settings = read_settings(environment(URL, SAI_MODELS=entries, SAI_TEMPLATE_ID=""))
    assert [(r.road, r.target, r.override) for r in settings.models.values()] == [
        ("template", "t2", "gpt/5.2"),
        ("chat", "t3", "both"),
        ("stream", "claude-sonnet-4-6", None),
        ("prompt", "gpt-5.2", "nested+no-images"),
    ]
    assert f"SAI_MODELS={entries.replace('template:', '')}" in shown_settings(settings)


def test_a_template_is_needed_where_a_model_names_none() -> None:
    (line,) = faults(SAI_TEMPLATE_ID="", SAI_MODELS="vivo=stream:m,sai-model")
    assert line.startswith("SAI_TEMPLATE_ID: not set")
    assert read_settings(environment(URL, SAI_TEMPLATE_ID="", SAI_MODELS="vivo=stream:m")).sai_template_id is None


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_secret_comes_from_a_path_under_the_secrets_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "renamed", "from-file\n")
    settings = read_settings(environment(URL, SAI_KEY=path), tmp_path)
    assert settings.system_key is not None
    assert settings.system_key.value == "from-file"


def test_a_secret_comes_from_the_file_that_its_file_variable_names(tmp_path: Path) -> None:
    path = write(tmp_path / "anywhere", "bare-cookie\r\n")
    settings = read_settings(environment(URL, SAI_COOKIE="", SAI_COOKIE_FILE=path), Path("/nonexistent"))
    assert settings.system_cookie is not None
    assert settings.system_cookie.value == ".AspNetCore.Cookies=bare-cookie"


def test_a_secret_comes_from_the_secrets_folder_if_nothing_is_set(tmp_path: Path) -> None:
    write(tmp_path / "SAI_KEY", "mounted")
    write(tmp_path / "ACCESS_TOKENS", "one,two\nthree\n")
    settings = read_settings(environment(URL, SAI_KEY=""), tmp_path)
    assert settings.system_key is not None
    assert settings.system_key.value == "mounted"
    assert settings.access_tokens == {"one", "two", "three"}


def test_a_credential_that_says_none_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "SAI_COOKIE", "none\n")
    settings = read_settings(environment(URL, SAI_COOKIE=path), tmp_path)
    assert settings.system_cookie is None
    assert settings.system_key is not None
    assert "neither is set" in faults(SAI_KEY="none", SAI_COOKIE="None")[0]
    tokens = read_settings(environment(URL, ACCESS_TOKENS="none")).access_tokens
    assert tokens == {"none"}, "no word opens the server"


def test_a_metrics_port_may_be_the_default_one_if_the_server_has_another() -> None:
    assert read_settings(environment(URL, PORT="5000", METRICS_PORT="4000")).metrics_port == 4000


def test_a_secret_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    missing, empty = str(tmp_path / "missing"), write(tmp_path / "empty", "\n")
    assert missing in faults(SAI_KEY="", SAI_KEY_FILE=missing)[0]
    assert empty in faults(SAI_KEY="", SAI_KEY_FILE=empty)[0]


def test_a_secret_given_twice_is_a_fault() -> None:
    assert "SAI_KEY_FILE" in faults(SAI_KEY_FILE="/some/file")[0]


def test_a_secret_that_cannot_be_a_header_is_named_but_not_shown() -> None:
    (line,) = faults(SAI_KEY="s3cret\x01")
    assert line.startswith("SAI_KEY: ")
    assert "s3cret" not in line


def test_the_shown_configuration_has_every_variable_and_no_secret() -> None:
    settings = read_settings(environment(URL, SAI_KEY="s3cret-key", SAI_COOKIE="s3cret-cookie", ACCESS_TOKENS="s3cret"))
    shown = shown_settings(settings)
    assert "s3cret" not in "\n".join(shown)
    assert "s3cret" not in repr(settings)
    names = [line.split("=")[0] for line in shown]
    assert {*PLAIN_VARIABLES, "SAI_URL", "SAI_TEMPLATE_ID", "SAI_KEY", "SAI_COOKIE", "ACCESS_TOKENS"} <= set(names)
    assert "REQUEST_TIMEOUT=600" in shown


def test_a_file_of_variables_is_taken_as_it_stands_and_the_environment_wins(tmp_path: Path) -> None:
    file = write(tmp_path / ".env", "SAI_KEY='a+b/c= ;&%$HOME ${HOME} #x'\nexport PORT=1\n# comment\nHOST = ::1\r\n")
    environ = with_env_file({"PORT": "2"}, file)
    assert environ == {"SAI_KEY": "a+b/c= ;&%$HOME ${HOME} #x", "PORT": "2", "HOST": "::1"}


@pytest.mark.parametrize("text", ["SAI_KEY='unterminated\n", "A=1\n=x\n"])
def test_a_malformed_file_of_variables_is_a_fault_with_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationFault, match=r"line [12]: not of the form NAME=value") as caught:
        with_env_file({}, write(tmp_path / ".env", text))
    assert "unterminated" not in str(caught.value)


def test_a_missing_file_of_variables_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="nowhere"):
        with_env_file({}, str(tmp_path / "nowhere"))


def test_the_password_of_a_store_is_never_shown() -> None:
    settings = read_settings(environment(URL, RESPONSES_STORE="redis://me:canary@store:6379/1?password=canary"))
    assert settings.responses_store.startswith("redis://me:canary@")
    assert "RESPONSES_STORE=redis://***@store:6379/1" in shown_settings(settings)
    with pytest.raises(ConfigurationFault) as caught:
        read_settings(environment(URL, RESPONSES_STORE="redis://me:canary@store:port"))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://store?foo=bar",
        "redis://store?db",
        "redis://store?db=one",
        "redis://store?socket_timeout=abc",
        "redis://store?ssl_cert_reqs=none",
        "rediss://store?ssl_cert_reqs=maybe",
    ],
)
def test_a_stores_url_with_an_option_that_nobody_knows_is_a_fault(url: str) -> None:
    with pytest.raises(ConfigurationFault) as caught:
        read_settings(environment(URL, RESPONSES_STORE=url))
    (fault,) = caught.value.faults
    assert fault.startswith("RESPONSES_STORE: found 'a URL that cannot be used'; allowed: none, memory, redis://")


@pytest.mark.parametrize(
    "url",
    [
        "redis://store",
        "redis://me:p%20w@store:6380/3?client_name=proxy",
        "redis://store?db=2&username=me&password=p",
        "rediss://store/?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=true",
        "rediss://store?ssl_certfile=/c&ssl_keyfile=/k",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_a_stores_url_that_is_let_in_is_one_that_its_library_takes(url: str) -> None:
    place = read_settings(environment(URL, RESPONSES_STORE=url)).responses_store
    pool = ConnectionPool.from_url(place)
    pool.connection_class(**pool.connection_kwargs)


def test_every_field_has_its_variable() -> None:
    composed = {
        "sai_url",
        "sai_template_id",
        "system_key",
        "system_cookie",
        "models",
        "access_tokens",
        "placeholder_keys",
        "cors_origins",
        "retry_statuses",
        "sai_template_inputs",
        "responses_store",
        "key_id_salt",
        "trusted_proxies",
        "workers",
    }
    assert {name.lower() for name in PLAIN_VARIABLES} == set(Settings.__struct_fields__) - composed
