"""The planner: grants are possible, whole and exclusive; everybody else is told why."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.domain.devices import Device, Node, Slot
from trainer.domain.plan import Plan, State, Wish, plan


def node(name: str, gpus: int = 0, cpus: int = 1, *, busy: int = 0, token: int = 1) -> Node:
    devices = [Device(f"gpu:{name}-{number}", "gpu") for number in range(gpus)]
    devices += [Device(f"cpu:{number}", "cpu") for number in range(cpus)]
    slots = [Slot(device, "holder" if place < busy else None, 1) for place, device in enumerate(devices)]
    return Node(name, token, tuple(slots))


def test_a_run_gets_a_cpu_slot_where_there_is_no_gpu() -> None:
    made = plan(State((node("a"),), (Wish("r", 1, 0, 1),)))
    assert [(it.run, it.node, it.devices) for it in made.allocations] == [("r", "a", ("cpu:0",))]


def test_a_run_gets_gpus_where_there_are_some() -> None:
    made = plan(State((node("a", gpus=2),), (Wish("r", 2, 0, 1),)))
    assert made.allocations[0].devices == ("gpu:a-0", "gpu:a-1")


def test_priority_goes_before_arrival() -> None:
    made = plan(State((node("a"),), (Wish("early", 1, 0, 1), Wish("urgent", 1, 5, 2))))
    assert [it.run for it in made.allocations] == ["urgent"]
    assert made.explanations == {"early": "waits for a CPU slot; held by run urgent"}


def test_a_large_run_is_not_overtaken() -> None:
    state = State((node("a", gpus=2, busy=1),), (Wish("large", 2, 0, 1), Wish("small", 1, 0, 2)))
    made = plan(state)
    assert made.allocations == ()
    assert made.explanations["small"] == "waits behind run large, which waits for more devices"
    assert made.explanations["large"] == "waits for 2 devices of one node (1 free); held by run holder"


def test_an_impossible_run_holds_nobody_up() -> None:
    made = plan(State((node("a"),), (Wish("huge", 64, 0, 1), Wish("small", 1, 0, 2))))
    assert [it.run for it in made.allocations] == ["small"]
    assert made.explanations["huge"] == "wants 64 devices of one node; the largest node has 1 that can be used"


def test_a_node_without_an_agent_gets_nothing() -> None:
    made = plan(State((node("a", token=0),), (Wish("r", 1, 0, 1),)))
    assert made == Plan((), {"r": "waits for a node: no agent is there"})


def test_a_device_with_a_trouble_is_not_used() -> None:
    broken = Node("a", 1, (Slot(Device("gpu:1", "gpu", trouble="used by process 7")),))
    made = plan(State((broken,), (Wish("r", 1, 0, 1),)))
    assert made.explanations["r"].startswith("wants 1 devices of one node; the largest node has 0")


def test_the_fullest_node_with_room_is_chosen() -> None:
    made = plan(State((node("a", gpus=4), node("b", gpus=4, busy=3)), (Wish("r", 1, 0, 1),)))
    assert made.allocations[0].node == "b"


nodes = st.builds(
    node,
    name=st.sampled_from("abcd"),
    gpus=st.integers(0, 4),
    cpus=st.integers(0, 2),
    busy=st.integers(0, 3),
    token=st.integers(0, 2),
)
wishes = st.builds(
    Wish, run=st.uuids().map(str), gpus=st.integers(0, 5), priority=st.integers(-2, 2), ticket=st.integers(0, 50)
)
states = st.builds(
    State,
    nodes=st.lists(nodes, max_size=4, unique_by=lambda it: it.name).map(tuple),
    wishes=st.lists(wishes, max_size=12, unique_by=lambda it: it.run).map(tuple),
)


@given(states)
def test_grants_are_whole_exclusive_and_everybody_else_has_a_reason(state: State) -> None:
    made = plan(state)
    wanted = {wish.run: wish for wish in state.wishes}
    free = {(it.name, slot.device.id) for it in state.nodes if it.token for slot in it.slots if slot.free}
    given_away = [(it.node, device) for it in made.allocations for device in it.devices]
    assert len(given_away) == len(set(given_away))
    assert set(given_away) <= free
    assert all(len(it.devices) == max(1, wanted[it.run].gpus) for it in made.allocations)
    granted = {it.run for it in made.allocations}
    assert granted.isdisjoint(made.explanations)
    assert granted | set(made.explanations) == set(wanted)
    assert all(made.explanations.values())


@given(states)
def test_the_plan_depends_on_nothing_else(state: State) -> None:
    turned = State(state.nodes[::-1], state.wishes[::-1])
    assert {it.run for it in plan(turned).allocations} == {it.run for it in plan(state).allocations}
    assert plan(state) == plan(state)


@given(states)
def test_planning_again_after_the_grants_grants_nothing_new_to_them(state: State) -> None:
    made = plan(state)
    left = {it.run for it in made.allocations}
    taken = {(it.node, device): it.run for it in made.allocations for device in it.devices}
    after = tuple(
        Node(
            it.name,
            it.token,
            tuple(Slot(slot.device, taken.get((it.name, slot.device.id), slot.run), slot.fence) for slot in it.slots),
        )
        for it in state.nodes
    )
    again = plan(State(after, tuple(wish for wish in state.wishes if wish.run not in left)))
    assert again.allocations == ()
