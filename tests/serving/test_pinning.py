"""What may be pinned in the memory of a Site, on a real catalog."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import bundles

from leptonai.core.errors import Conflict, NotFound
from leptonai.core.nouns import Memory, Model, Service, Site
from leptonai.server.context import Context, open_context
from leptonai.server.desk import ServerDesk
from leptonai.serving import pinning, verbs
from leptonai.serving.pinning import Room
from leptonai.serving.spec import Deploy

MIB = 2**20


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Context]:
    made = open_context(tmp_path, None, None, 30.0)
    yield made
    made.close()


def site(here: Context, room: Room) -> None:
    here.catalog.add(Site.new(name="edge", facts=room.facts()))


def model(here: Context, version: int, size: int) -> Model:
    made = bundles.adder(version)[0].model_copy(update={"bytes": size})
    here.catalog.add(made)
    return made


def deploy(here: Context, name: str, model: Model, pin: bool | None = None) -> None:
    spec = Deploy(name=name, model=model.id, site="edge", pin=pin)
    changes = verbs.deploy(spec, ServerDesk(here, "ann"))
    here.catalog.add(*changes.add)
    here.catalog.change(*changes.change)


def kept(here: Context, name: str) -> Memory:
    (found,) = here.catalog.find(Service, {"name": name})
    assert isinstance(found, Service)
    return found.memory


def test_room_survives_the_facts_of_a_site() -> None:
    for room in (Room(), Room(100 * MIB, None, 2), Room(7 * MIB, 3, 8)):
        assert Room.of(room.facts()) == room
    assert Room.of({"model_memory_mb": "much", "models_resident": 0, "planes": None}) == Room()


def test_by_number(here: Context) -> None:
    site(here, Room(models=2))
    one, two = model(here, 1, 10), model(here, 2, 10)
    deploy(here, "a", one, pin=True)
    deploy(here, "b", two, pin=True)  # nobody else needs room
    with pytest.raises(Conflict, match="service c cannot be pinned at site edge: 3 models would be pinned"):
        deploy(here, "c", model(here, 3, 10), pin=True)
    deploy(here, "c", one, pin=True)  # the same model takes no room of its own
    changes = pinning.keep("b", Memory(pin=False), ServerDesk(here, "ann"))
    here.catalog.change(*changes.change)
    deploy(here, "d", model(here, 4, 10))
    with pytest.raises(Conflict, match=r"another one for the services that are not pinned.*: unpin one of a, c"):
        pinning.keep("b", Memory(pin=True), ServerDesk(here, "ann"))


def test_by_size(here: Context) -> None:
    site(here, Room(bytes=100 * MIB, planes=2))
    deploy(here, "a", model(here, 1, 30 * MIB), pin=True)
    big = model(here, 2, 10 * MIB)
    deploy(here, "b", big)
    with pytest.raises(Conflict, match="about 120 MiB of the 100 of model_memory: unpin one of a,"):
        pinning.keep("b", Memory(pin=True), ServerDesk(here, "ann"))
    with pytest.raises(Conflict, match="about 150 MiB"):  # what is pinned stays pinned when it moves, or does not move
        deploy(here, "a", model(here, 3, 50 * MIB))


def test_a_deploy_leaves_it_as_it_is(here: Context) -> None:
    site(here, Room())
    one, two = model(here, 1, 10), model(here, 2, 10)
    deploy(here, "a", one, pin=True)
    deploy(here, "a", two)
    assert kept(here, "a").pin
    deploy(here, "a", one, pin=False)
    assert not kept(here, "a").pin
    with pytest.raises(NotFound, match="no service 'z'"):
        pinning.keep("z", Memory(pin=True), ServerDesk(here, "ann"))
