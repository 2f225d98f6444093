"""The record of a request and its readings: log line, metrics, spans. Nothing here changes an answer."""
