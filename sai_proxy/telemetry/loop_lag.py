"""Measures how late the event loop wakes up: the first sign of a replica that has too much to do."""

import asyncio

from sai_proxy.telemetry.numbers import Histogram

INTERVAL_S = 0.5


async def watch_loop_lag(lag: Histogram) -> None:
    """Observe until cancelled, in seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        lag.observe(max(loop.time() - due, 0))
