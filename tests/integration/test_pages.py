"""The pages, the document, and the document against the real answers."""

from typing import Any

import jsonschema
import pytest

from sai_proxy.simulator import Simulator
from tests.support import Proxy, chat


def schema_of(document: dict[str, Any], path: str, method: str, status: int) -> dict[str, Any]:
    responses = document["paths"][path][method]["responses"]
    content = (responses.get(str(status)) or responses[f"{status // 100}XX"])["content"]
    return {**content["application/json"]["schema"], "components": document["components"]}


async def test_the_root_says_what_this_is(proxy: Proxy) -> None:
    welcome = (await proxy.get("/")).json
    assert welcome["name"] == "sai-proxy"
    assert welcome["version"]
    for link in (welcome["docs"], welcome["openapi"]):
        assert (await proxy.get(link)).status == 200


async def test_the_page_and_all_that_it_loads_come_from_here(proxy: Proxy) -> None:
    page = await proxy.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    for asset, kind in {
        "swagger-ui.css": "text/css",
        "swagger-ui-bundle.js": "text/javascript",
        "favicon-32x32.png": "image/png",
        "start.js": "text/javascript",
    }.items():
        assert f"docs/{asset}" in page.text
        async with proxy.session.get(f"{proxy.url}/docs/{asset}") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith(kind)
            assert response.headers["x-request-id"]
            assert await response.read()
    assert "//" not in page.text.replace("<!doctype", "")
    for path in ("/docs/index.html", "/docs/..%2f..%2fsetup.cfg", "/docs/oauth2-redirect.html"):
        assert (await proxy.get(path)).status == 404


async def test_the_document_describes_every_route(proxy: Proxy) -> None:
    document = (await proxy.get("/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    for path, operations in document["paths"].items():
        for method in operations:
            answer = await proxy.get(path.replace("{id}", "sai-model"), method=method.upper())
            assert {str(answer.status), f"{answer.status // 100}XX"} & set(operations[method]["responses"])
            assert operations[method]["tags"][0] in {tag["name"] for tag in document["tags"]}


async def test_the_document_knows_every_field(proxy: Proxy) -> None:
    schemas = (await proxy.get("/openapi.json")).json["components"]["schemas"]
    for name in ("ChatCompletionRequest", "CompletionRequest", "ResponsesRequest"):
        for field, schema in schemas[name]["properties"].items():
            assert schema["description"].split(":")[0] in ("honoured", "emulated", "ignored", "refused"), field
    assert set(schemas["ChatCompletionRequest"]["required"]) == {"model", "messages"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", chat("[[answer=hi]]", n=2), 200),
        ("/v1/completions", {"model": "sai-model", "prompt": "[[answer=hi]]"}, 200),
        ("/v1/chat/completions", chat("[[status=429]]"), 429),
        ("/v1/chat/completions", chat("[[status=500]]"), 502),
        ("/v1/completions", {"model": "sai-model"}, 400),
    ],
)
async def test_answers_are_as_documented(sai: Simulator, proxy: Proxy, path: str, body: Any, status: int) -> None:
    document = (await proxy.get("/openapi.json")).json
    answer = await proxy.post(body, path=path)
    assert answer.status == status
    jsonschema.Draft202012Validator(schema_of(document, path, "post", status)).validate(answer.json)
    request = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    if status == 200:
        jsonschema.Draft202012Validator({**request, "components": document["components"]}).validate(body)
