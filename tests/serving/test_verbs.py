"""Deploy and delete, on a real catalog."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import bundles

from leptonai.core.errors import Conflict, Invalid, NotFound, Unsupported
from leptonai.core.nouns import Alias, Model, Service, ServiceStatus, Site
from leptonai.core.stages import Changes
from leptonai.core.states import ServiceState
from leptonai.server.context import Context, open_context
from leptonai.server.desk import ServerDesk
from leptonai.serving import verbs
from leptonai.serving.spec import Deploy, Share, Split


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Context]:
    made = open_context(tmp_path, None, None, 30.0)
    made.catalog.add(Site.new(name="edge"))
    yield made
    made.close()


def kept(here: Context, version: int, **change: object) -> Model:
    model = bundles.adder(version)[0].model_copy(update=change)
    here.catalog.add(model)
    return model


def deploy(here: Context, model: str, site: str = "home", **more: Any) -> Service:
    changes = verbs.deploy(Deploy(name="sum", model=model, site=site, **more), ServerDesk(here, "ann"))
    write(here, changes)
    (found,) = here.catalog.find(Service, {"name": "sum"})
    return found


def write(here: Context, changes: Changes) -> None:
    here.catalog.change(*changes.change, add=changes.add, drop=changes.drop)


@pytest.mark.parametrize("ref", ["id", "models:/adder/1", "adder/1", "adder", "adder@champion"])
def test_a_model_may_be_named_in_any_way(here: Context, ref: str) -> None:
    model = kept(here, 1)
    here.catalog.add(Alias.new(name="adder", alias="champion", model=model.id))
    service = deploy(here, model.id if ref == "id" else ref)
    assert [variant.model for variant in service.variants] == [model.id]
    assert (service.by, service.site, service.status.state, service.status.rev) == (
        "ann",
        "home",
        "starting",
        service.rev,
    )


def test_who_may_call_stays_as_it_is_until_it_is_said(here: Context) -> None:
    one, two = kept(here, 1), kept(here, 2)
    assert deploy(here, one.id).public is False
    seen = []
    for public, model in ((True, one), (None, two), (False, two), (None, one)):
        write(here, verbs.deploy(Deploy(name="sum", model=model.id, public=public), ServerDesk(here, "ann")))
        (service,) = here.catalog.find(Service, {"name": "sum"})
        seen.append(service.public)
    assert seen == [True, True, False, False]
    write(here, verbs.deploy(Deploy(name="open", model=one.id, public=True), ServerDesk(here, "ann")))
    assert here.catalog.find(Service, {"name": "open"})[0].public is True


def test_a_service_moves_and_what_answers_goes_on(here: Context) -> None:
    one, two = kept(here, 1), kept(here, 2)
    service = deploy(here, one.id)
    status = ServiceStatus(
        state=ServiceState.READY, rev=service.rev, live=(one.id,), url="http://127.0.0.1:1/services/sum/predict"
    )
    here.catalog.change(service.model_copy(update={"status": status}))
    moved = deploy(here, two.id)  # the new one gets nothing before it was looked at
    assert [(v.name, v.model, v.percent) for v in moved.variants] == [("stable", one.id, 100), ("canary", two.id, 0)]
    assert moved.status == status.model_copy(update={"state": ServiceState.UPDATING, "rev": moved.rev})
    assert moved.wanted == two.id
    assert verbs.opens(moved) == (one.id, two.id)
    back = deploy(here, one.id)
    assert verbs.opens(back) == (one.id,)
    assert back.rollout is not None
    assert not back.rollout.going
    at_once = deploy(here, two.id, strategy="now")
    assert [(v.name, v.model, v.percent) for v in at_once.variants] == [("stable", two.id, 100)]
    assert verbs.opens(at_once) == (two.id, one.id)
    write(here, verbs.rollback("sum", ServerDesk(here, "bob")))
    (found,) = here.catalog.find(Service, {"name": "sum"})
    assert [v.model for v in found.variants] == [one.id]


def test_shares_must_sum_to_a_hundred(here: Context) -> None:
    one, two, three = kept(here, 1), kept(here, 2), kept(here, 3)
    deploy(here, one.id)
    desk = ServerDesk(here, "ann")

    def shares(*given: tuple[str, Model, int]) -> Split:
        return Split(variants=tuple(Share(name=n, model=m.id, percent=p) for n, m, p in given), sticky="key")  # type: ignore[arg-type]

    for wrong, why in (
        (shares(("stable", one, 90), ("canary", two, 20)), "stable 90 . canary 20 is 110"),
        (
            shares(
                ("stable", one, 50),
            ),
            "stable 50 is 50",
        ),
        (
            shares(
                ("canary", two, 100),
            ),
            "one stable version first",
        ),
        (shares(("stable", one, 50), ("canary", two, 25), ("canary", three, 25)), "at most one canary"),
    ):
        with pytest.raises(Invalid, match=why):
            verbs.split("sum", wrong, desk)
    write(here, verbs.split("sum", shares(("stable", one, 90), ("canary", two, 10), ("shadow", three, 30)), desk))
    (found,) = here.catalog.find(Service, {"name": "sum"})
    assert [(v.name, v.percent) for v in found.variants] == [("stable", 90), ("canary", 10), ("shadow", 30)]
    assert (found.sticky, found.wanted) == ("key", one.id)
    write(here, verbs.promote("sum", desk))
    (found,) = here.catalog.find(Service, {"name": "sum"})
    assert [(v.name, v.model, v.percent) for v in found.variants] == [("stable", two.id, 100)]
    with pytest.raises(Conflict, match="no rollout that goes on"):
        verbs.promote("sum", desk)


def test_the_same_again_is_another_deploy(here: Context) -> None:
    model = kept(here, 1)
    first, second = deploy(here, model.id), deploy(here, model.id)
    assert second.status.rev == second.rev > first.status.rev
    assert second.id == first.id


def test_what_cannot_be_deployed(here: Context) -> None:
    model, empty = kept(here, 1), kept(here, 2, files={})
    with pytest.raises(NotFound, match=r"nowhere.*edge, home"):
        deploy(here, model.id, "nowhere")
    with pytest.raises(NotFound):
        deploy(here, "none/3")
    with pytest.raises(Unsupported, match="adder/2 has no file"):
        deploy(here, empty.id)
    deploy(here, model.id)
    with pytest.raises(Conflict, match="is at site home"):
        deploy(here, model.id, "edge")


def test_delete(here: Context) -> None:
    service = deploy(here, kept(here, 1).id)
    write(here, verbs.delete(service))
    assert here.catalog.find(Service) == []


def test_blobs_that_a_site_needs(here: Context) -> None:
    assert verbs.blobs(kept(here, 1, files={"model.onnx": "a", "code": "b", "card.md": "c"})) == ("a",)
    native = kept(here, 2, files={"code": "b", "model.skops": "d", "fitted.json": "e"})
    assert set(verbs.blobs(native)) == {"b", "d", "e"}
