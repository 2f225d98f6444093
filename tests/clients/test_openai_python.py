import openai
import pytest

from tests.clients.background import Background
from tests.clients.contract import KEY, OPENAI_ERRORS, ClientContract, Failure, Reply, failure_of
from tests.support import Proxy


class OpenAiPython:
    def __init__(self, base_url: str) -> None:
        self._client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0)

    def ask(self, text: str) -> Reply:
        answer = self._client.chat.completions.create(model="sai-model", messages=[{"role": "user", "content": text}])
        assert answer._request_id
        assert answer.usage is not None
        return Reply(
            answer.choices[0].message.content or "", (answer.usage.prompt_tokens, answer.usage.completion_tokens)
        )

    def stream(self, text: str) -> list[str]:
        with self._client.chat.completions.create(
            model="sai-model",
            messages=[{"role": "user", "content": text}],
            stream=True,
            stream_options={"include_usage": True},
        ) as chunks:
            seen = list(chunks)
        assert seen[-1].usage is not None
        return [c.choices[0].delta.content for c in seen if c.choices and c.choices[0].delta.content]

    def leave(self, text: str) -> None:
        with self._client.chat.completions.create(
            model="sai-model", messages=[{"role": "user", "content": text}], stream=True
        ) as chunks:
            for chunk in chunks:
                if chunk.choices[0].delta.content:
                    break

    def failure(self, text: str, *, stream: bool) -> Failure:
        return failure_of(lambda: self.stream(text) if stream else self.ask(text))

    def models(self) -> list[str]:
        return [model.id for model in self._client.models.list()]


class TestOpenAiPython(ClientContract):
    client = OpenAiPython
    errors = OPENAI_ERRORS
    broken = "APIError"

    def test_the_exception_carries_code_param_and_type(self, served: Proxy) -> None:
        client = openai.OpenAI(base_url=served.url + "/v1", api_key=KEY, max_retries=0)
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="sai-model", messages=[{"role": "user", "content": "x"}], logprobs=True
            )
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "logprobs")
        assert caught.value.type == "invalid_request_error"
        assert caught.value.request_id

    def test_several_choices_and_legacy_completions(self, served: Proxy) -> None:
        client = openai.OpenAI(base_url=served.url + "/v1", api_key=KEY, max_retries=0)
        answer = client.chat.completions.create(
            model="sai-model", messages=[{"role": "user", "content": "[[answer=one STOP two]]"}], n=2, stop="STOP"
        )
        assert [choice.message.content for choice in answer.choices] == ["one ", "one "]
        text = client.completions.create(model="sai-model", prompt=["[[answer=a]]", "[[answer=b]]"], max_tokens=5)
        assert [choice.text for choice in text.choices] == ["a", "b"]
        pieces = client.completions.create(model="sai-model", prompt="[[answer=abc]][[split=1]]", stream=True)
        assert "".join(piece.choices[0].text for piece in pieces) == "abc"


class TestRetries:
    """openai-python's real retry loop: two retries after 429, 408, 409 and 5xx, unless told otherwise."""

    def calls(self, world: Background, proxy: Proxy, text: str) -> int:
        client = openai.OpenAI(base_url=proxy.url + "/v1", api_key=KEY, max_retries=2)
        before = len(world.sai.calls)
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="sai-model", messages=[{"role": "user", "content": text}])
        return len(world.sai.calls) - before

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413])
    def test_what_cannot_succeed_is_not_repeated(self, world: Background, served: Proxy, status: int) -> None:
        assert self.calls(world, served, f"[[status={status}]][[retry-after=1]]") == 1

    def test_a_limit_is_repeated_after_the_time_that_sai_named(self, world: Background) -> None:
        proxy = world.start_proxy(SAI_COOKIE="")
        assert self.calls(world, proxy, "[[status=429]][[retry-after=1]]") == 3

    def test_a_passing_limit_is_survived(self, world: Background) -> None:
        proxy = world.start_proxy(SAI_COOKIE="")
        client = openai.OpenAI(base_url=proxy.url + "/v1", api_key=KEY, max_retries=2)
        answer = client.chat.completions.create(
            model="sai-model",
            messages=[{"role": "user", "content": "[[status=429]][[retry-after=1]][[times=1]][[answer=at last]]"}],
        )
        assert answer.choices[0].message.content == "at last"

    def test_attempts_do_not_multiply(self, world: Background) -> None:
        proxy = world.start_proxy(MAX_RETRIES="1")
        assert self.calls(world, proxy, "[[status=503]]") == 2, "the proxy's own two, and none of the client's"

    def test_a_context_overflow_is_not_repeated(self, world: Background) -> None:
        proxy = world.start_proxy(CONTEXT_OVERFLOW="error")
        assert self.calls(world, proxy, "[[overflow]]") == 1
