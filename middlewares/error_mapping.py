"""Turns whatever is raised inside into an answer that OpenAI's clients understand.

Reads ANSWER, if the request got that far, to tell a failure as an assistant's message where the
operator chose so; writes the error's code into RECORD. Stands right inside request-id, so that
nothing escapes it. Once bytes have gone out it re-raises: a second answer would land in the first. What was asked,
and its answer, is let go here, however the request ends.
"""

import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy import errors
from sai_proxy.http.error_responses import error_response, from_http_exception
from sai_proxy.keys import ANSWER, CONTENT, RECORD
from sai_proxy.openai_api import event_stream
from sai_proxy.openai_api.failures import FailurePolicy

logger = logging.getLogger(__name__)


def error_mapping_middleware(policy: FailurePolicy) -> Middleware:
    def answer(request: web.Request, error: errors.ProxyError) -> web.Response:
        format_, form = request.get(ANSWER), policy.form(error)
        if format_ is not None:
            form = format_.refusal(form)
        request[RECORD].error = form.code or form.type
        request[RECORD].fault = error.fault
        request[RECORD].told = form.message
        request[RECORD].param = error.param
        if error.detail:
            logger.warning("request failed", extra={"error": request[RECORD].error, "detail": error.detail})
        told = policy.message(error, format_) if format_ is not None else None
        if format_ is None or told is None:
            return error_response(form)
        request[RECORD].finish_reason = told.finish_reason
        if format_.stream:
            events = policy.last_events(error, format_, opened=False, text_sent=False)
            return web.Response(body=events, headers=event_stream.HEADERS)
        return web.Response(body=policy.whole_message(told, format_), content_type="application/json")

    @web.middleware
    async def error_mapping(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except errors.ProxyError as exc:
            if request.writer.output_size:
                raise ConnectionAbortedError("an answer has already begun") from exc
            return answer(request, exc)
        except web.HTTPException as exc:
            return answer(request, from_http_exception(exc, request))
        except ConnectionError:
            raise  # the client has left: there is nobody to answer
        except Exception:
            if request.writer.output_size:
                raise
            logger.exception("unexpected error")
            return answer(request, errors.InternalError())
        finally:
            for key in [key for key in request if key in CONTENT]:
                del request[key]

    return error_mapping
