import pytest

from sai_proxy.conversation.abilities import Abilities
from sai_proxy.sai_api.roads import DEFAULT_ROAD, make_roads
from tests.sai_proxy.sai_api.road_tests import ROADS, route_to

TARGETS = {"template": "t1", "chat": "t1", "stream": "claude-sonnet-4-6", "prompt": "gpt-4o"}


def test_every_road_has_a_target_here() -> None:
    assert set(TARGETS) == set(ROADS)
    assert DEFAULT_ROAD in ROADS


@pytest.mark.parametrize("road", ROADS)
def test_a_route_says_its_road_and_its_form(road: str) -> None:
    route = route_to(road, TARGETS[road])
    assert (route.road, route.name) == (road, f"{road}:{TARGETS[road]}")
    assert ROADS[road].form.startswith(f"{road}:")


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("target", ["", "a b", "../x", "a?b", "a#b"])
def test_a_malformed_target_is_no_route(road: str, target: str) -> None:
    assert ROADS[road].route(target, None) is None


@pytest.mark.parametrize(
    ("road", "override"),
    [("chat", "flat"), ("stream", "cookie+key"), ("stream", "fast"), ("prompt", "flat+nested"), ("prompt", "")],
)
def test_an_unknown_or_contradicting_option_is_no_route(road: str, override: str) -> None:
    assert (ROADS[road].route(TARGETS[road], override) is None) == (override != "")


@pytest.mark.parametrize(
    ("road", "override", "changed"),
    [
        ("chat", None, {}),
        ("chat", "both", {"credentials": frozenset({"key", "cookie"})}),
        ("stream", "key+no-sampling", {"credentials": frozenset({"key"}), "sampling": frozenset()}),
        ("prompt", "no-images", {"images": False}),
        ("prompt", "text", {"tools": "emulated"}),
    ],
)
def test_an_option_switches_an_assumption(road: str, override: str | None, changed: dict[str, object]) -> None:
    plain, switched = route_to(road, TARGETS[road]).can, route_to(road, TARGETS[road], override).can
    for name in Abilities.__struct_fields__:
        assert getattr(switched, name) == changed.get(name, getattr(plain, name))


def test_a_template_that_asks_for_tools_itself_is_not_asked_twice() -> None:
    route = make_roads(("system", "user", "tools"))["template"].route("t1", None)
    assert route is not None
    assert route.can.tools == "read"
