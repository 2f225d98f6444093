"""Calling tools, and answering in JSON, over a service that only writes text: how both are asked for, read
back and checked. Pure: text in, events out; no I/O, no wire format of OpenAI's or SAI's."""
