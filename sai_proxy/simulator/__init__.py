"""SAI, played over a real socket: the demo's upstream, the tests', and anyone's who tries a client
offline. It does what SAI's callers have seen it do, and on request (`directives`) what goes wrong.
"""

from sai_proxy.simulator.server import RecordedCall, Simulator, run_simulator_at, simulator

__all__ = ["RecordedCall", "Simulator", "run_simulator_at", "simulator"]
