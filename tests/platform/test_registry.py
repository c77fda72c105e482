"""The registry: generations, calls of `changed`, names that are taken."""

import pytest

from edge.platform.registry import ContainerRow, EnvironmentSpec, NameTaken, Registry, UnknownName


@pytest.fixture
def changes():
    return []


@pytest.fixture
def registry(changes):
    made = Registry(":memory:", lambda *change: changes.append(change), first_generation=100)
    yield made
    made.close()


def row(container_id="b7c1", **members):
    return ContainerRow(
        **{
            "id": container_id,
            "site": "acme",
            "environment": "live",
            "address": "127.0.0.1",
            "port": 1,
            "server": "srv-1",
            "role": "active",
            "state": "running",
            **members,
        }
    )


def test_every_change_grows_the_generation_and_is_reported(registry, changes):
    made = registry.add_environment(EnvironmentSpec(site="acme"))
    assert made.generation == 100
    assert made.hostnames == ("live-acme.localhost",)
    assert changes == [("acme", "live", ("live-acme.localhost",))]
    actions = [
        lambda: registry.add_container(row()),
        lambda: registry.set_state("b7c1", "asleep"),
        lambda: registry.relocate("b7c1", port=2, server="srv-2"),
        lambda: registry.set_goal("acme", "live", containers=5),
        lambda: registry.set_service("acme", "live", maintenance=True, redirect="https://elsewhere.example/"),
        lambda: registry.remove_container("b7c1"),
    ]
    for number, action in enumerate(actions, start=1):
        action()
        assert registry.environment("acme", "live").generation == 100 + number
        assert len(changes) == 1 + number
    assert registry.environment("acme", "live").containers == 5


def test_setting_the_state_it_has_is_no_change(registry, changes):
    registry.add_environment(EnvironmentSpec(site="acme"))
    registry.add_container(row())
    count = len(changes)
    registry.set_state("b7c1", "running")
    assert len(changes) == count


def test_generation_grows_over_deletion(registry):
    first = registry.add_environment(EnvironmentSpec(site="acme"))
    registry.add_container(row())
    registry.remove_environment("acme", "live")
    with pytest.raises(UnknownName):
        registry.container("b7c1")
    assert registry.environment_of("live-acme.localhost") is None
    assert registry.add_environment(EnvironmentSpec(site="acme")).generation > first.generation


def test_taken_hostname_leaves_nothing_behind(registry, changes):
    registry.add_environment(EnvironmentSpec(site="acme", hostnames=("a.example",)))
    with pytest.raises(NameTaken):
        registry.add_environment(EnvironmentSpec(site="other", hostnames=("b.example", "a.example")))
    assert registry.environment_of("b.example") is None
    assert [known.site for known in registry.environments()] == ["acme"]
    assert len(changes) == 1


def test_a_file_is_read_again(tmp_path, changes):
    path = str(tmp_path / "platform.sqlite")
    first = Registry(path, lambda *_: None, first_generation=7)
    first.add_environment(EnvironmentSpec(site="acme", workers=9))
    first.close()
    second = Registry(path, lambda *change: changes.append(change), first_generation=1)
    known = second.environment("acme", "live")
    assert (known.recipe.workers, known.generation) == (9, 7)
    second.close()
