"""The registry's verbs, written to a real catalog."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from leptonai.core import plugins
from leptonai.core.errors import Conflict, Invalid, NotFound, Stale
from leptonai.core.nouns import Alias, Model, Run, Service, ServiceStatus, Variant
from leptonai.core.ports import Catalog
from leptonai.core.stages import Changes
from leptonai.registry.spec import SetAlias
from leptonai.registry.verbs import delete_model, drop_alias, set_alias, settle_export


class Desk:
    """What the verbs read, straight from the catalog."""

    by = "ada"

    def __init__(self, catalog: Catalog):
        self.catalog = catalog

    def find(self, kind: Any, where: Mapping[str, Any] | None = None, *, limit: int = 100) -> list[Any]:
        return self.catalog.find(kind, where, limit=limit)

    def get(self, kind: Any, id: str) -> Any:
        return self.catalog.get(kind, id)

    def dataset(self, ref: str) -> Any:
        raise NotImplementedError

    def model(self, ref: str) -> Any:
        raise NotImplementedError

    def read(self, blob: str) -> bytes:
        raise NotImplementedError


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = plugins.catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield opened
    if hasattr(opened, "close"):
        opened.close()


def write(catalog: Catalog, changes: Changes) -> None:
    catalog.change(*changes.change, add=changes.add, drop=changes.drop)


def result(name: str = "churn", aliases: tuple[str, ...] = (), **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "aliases": list(aliases),
        "digest": "d" * 64,
        "framework": "torch",
        "files": {"model.onnx": "b1", "code": "b2"},
        "bytes": 10,
        "signature": {"inputs": [], "outputs": [], "task": "regression"},
        "metrics": {"mae": 0.5},
        "lineage": {"seed": 0},
        "note": "",
        **other,
    }


def publish(catalog: Catalog, **given: Any) -> Model:
    run = Run.new(name="x", stage="export", spec={}, by="bob")
    while True:
        changes = settle_export(run, result(**given), Desk(catalog))
        try:
            write(catalog, changes)
        except (Conflict, Stale):
            continue
        return next(record for record in changes.add if isinstance(record, Model))


def test_versions_count_up_by_name(catalog: Catalog) -> None:
    assert [publish(catalog).version, publish(catalog).version, publish(catalog, name="other").version] == [1, 2, 1]
    model = catalog.find(Model, {"name": "churn", "version": 2})[0]
    assert (model.by, model.framework, model.metrics, model.files["code"]) == ("bob", "torch", {"mae": 0.5}, "b2")


def test_publishing_moves_an_alias_in_the_same_write(catalog: Catalog) -> None:
    publish(catalog, aliases=("champion", "champion"))
    second = publish(catalog, aliases=("champion", "latest"))
    held = {alias.alias: alias.model for alias in catalog.find(Alias, {"name": "churn"})}
    assert held == {"champion": second.id, "latest": second.id}


def test_a_number_taken_meanwhile_leaves_nothing(catalog: Catalog) -> None:
    run = Run.new(name="x", stage="export", spec={})
    first = settle_export(run, result(aliases=("champion",)), Desk(catalog))
    publish(catalog)
    with pytest.raises(Conflict):
        write(catalog, first)
    assert not catalog.find(Alias, {"name": "churn"})
    assert [model.version for model in catalog.find(Model, {"name": "churn"})] == [1]


def test_many_exports_at_once_get_numbers_without_a_gap(catalog: Catalog) -> None:
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: publish(catalog, aliases=("champion",)).version, range(12)))
    assert sorted(versions) == list(range(1, 13))
    assert len(catalog.find(Alias, {"name": "churn"})) == 1


def test_set_alias(catalog: Catalog) -> None:
    one, two = publish(catalog), publish(catalog)
    write(catalog, set_alias("churn", SetAlias(alias="champion", version=2), Desk(catalog)))
    assert catalog.get(Alias, "churn@champion").model == two.id
    write(catalog, set_alias("churn", SetAlias(alias="champion", version=1), Desk(catalog)))
    alias = catalog.get(Alias, "churn@champion")
    assert (alias.model, alias.by) == (one.id, "ada")


def test_set_alias_to_no_version(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match="churn has no version 3") as error:
        set_alias("churn", SetAlias(alias="champion", version=3), Desk(catalog))
    assert "no model churn yet" in error.value.errors[0].message
    publish(catalog)
    with pytest.raises(NotFound) as error:
        set_alias("churn", SetAlias(alias="champion", version=3), Desk(catalog))
    assert error.value.errors[0].message == "one of 1"


def test_of_two_who_move_an_alias_one_is_told(catalog: Catalog) -> None:
    publish(catalog), publish(catalog)
    write(catalog, set_alias("churn", SetAlias(alias="champion", version=1), Desk(catalog)))
    mine = set_alias("churn", SetAlias(alias="champion", version=2), Desk(catalog))
    write(catalog, set_alias("churn", SetAlias(alias="champion", version=2), Desk(catalog)))
    with pytest.raises(Stale):
        write(catalog, mine)


def test_drop_alias(catalog: Catalog) -> None:
    publish(catalog, aliases=("champion",))
    write(catalog, drop_alias("churn", "champion", Desk(catalog)))
    assert not catalog.find(Alias, {"name": "churn"})
    with pytest.raises(NotFound, match="no alias 'champion'"):
        drop_alias("churn", "champion", Desk(catalog))


def test_delete_names_everything_that_holds_a_version(catalog: Catalog) -> None:
    model = publish(catalog, aliases=("champion", "latest"))
    other = publish(catalog)
    catalog.add(
        Service.new(name="front", variants=(Variant(model=model.id),)),
        Service.new(name="moving", variants=(Variant(model=other.id),), status=ServiceStatus(live=(model.id,))),
    )
    with pytest.raises(Conflict, match=r"churn/1 is in use by .*: move or delete that first") as error:
        delete_model(model, Desk(catalog))
    assert {wrong.field for wrong in error.value.errors} == {
        "alias champion", "alias latest", "service front", "service moving",
    }  # fmt: skip


def test_delete(catalog: Catalog) -> None:
    model = publish(catalog)
    write(catalog, delete_model(model, Desk(catalog)))
    assert not catalog.find(Model, {"name": "churn"})


@pytest.mark.parametrize("given", [{"name": "../x"}, {"aliases": ("Champion",)}])
def test_bad_names(catalog: Catalog, given: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="not a valid name"):
        settle_export(Run.new(name="x", stage="export", spec={}), result(**given), Desk(catalog))
