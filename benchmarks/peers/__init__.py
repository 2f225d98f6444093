"""Other gateways beside this one: `make bench-peers`."""
