"""What this process is called in its log lines. It tells replicas apart: in a Swarm, docker-stack.yml names their hosts
by their slots; and the workers of one replica."""

from socket import gethostname

_name = gethostname()


def host_name() -> str:
    """The host's name; of one of several workers, `name/number`."""
    return _name


def name_worker(number: int) -> None:
    """This process is one of several, from now on."""
    global _name
    _name = f"{gethostname()}/{number}"
