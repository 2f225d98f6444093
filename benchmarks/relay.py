"""The yardstick: the least that stands between a client and SAI with aiohttp.

It posts a request's body to SAI as it is and returns the text, whole or piece by piece. It parses, checks, counts and
logs nothing. `python -m benchmarks.relay PORT SAI_URL`.
"""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

PATH = "/v1/chat/completions"


async def serve(port: int, sai_url: str) -> None:
    """Until it is ended."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    url = f"{sai_url}/api/templates/t/execute"

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with session.post(url, data=body, headers={"X-Api-Key": "k"}) as response:
            if b'"stream": true' not in body:
                return web.Response(body=await response.read(), content_type="application/json")
            stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await stream.prepare(request)
            async for piece in response.content.iter_any():
                await stream.write(b"data: " + piece + b"\n\n")
            return stream

    app = web.Application(client_max_size=2**30)
    app.router.add_post(PATH, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
