"""From SAI's answer to the client's bytes: the handler, the choices, the heartbeats, the one writer. No wire
format of either side."""
