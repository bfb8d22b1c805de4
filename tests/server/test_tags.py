"""Tags of dataset versions: they point, move, keep their version, and go with the dataset."""

import pytest
from tests.server.conftest import Place, dataset

from leptonai.core.errors import Invalid
from leptonai.core.nouns import Audit, Dataset, LabelAnswers, LabelTask, Run, Tag
from leptonai.core.refs import DatasetRef
from leptonai.core.states import RunState


def versions(place: Place, count: int = 3) -> list[Dataset]:
    made = []
    for number in range(1, count + 1):
        manifest = place.upload(f"manifest {number}".encode())
        made.append(dataset(version=number, digest=f"d{number}", manifest=manifest))
        place.context.catalog.add(made[-1])
    return made


def test_a_tag_is_set_moved_and_taken_away(place: Place) -> None:
    one, two, _ = versions(place)
    for version in (1, 2):
        answer = place.ask("PUT", "/datasets/things/tags/approved", json={"version": version})
        assert answer.status_code == 200, answer.text
    assert place.ask("GET", "/datasets/things@approved").json()["id"] == two.id
    assert [(tag["tag"], tag["dataset"]) for tag in place.ask("GET", "/tags?name=things").json()["items"]] == [
        ("approved", two.id)
    ]
    kept = place.ask("DELETE", "/datasets/things@v2")
    assert kept.status_code == 409
    assert "has the tag approved" in kept.json()["message"]
    assert place.ask("DELETE", "/datasets/things@v1").status_code == 204, one.id
    assert place.ask("DELETE", "/datasets/things/tags/approved").status_code == 204
    gone = place.ask("GET", "/datasets/things@approved")
    assert gone.status_code == 404
    assert "no version of dataset things has the tag approved" in gone.json()["message"]
    assert place.ask("DELETE", "/datasets/things/tags/approved").status_code == 404
    assert place.ask("DELETE", "/datasets/things@v2").status_code == 204
    assert place.ask("PUT", "/datasets/things/tags/approved", json={"version": 2}).status_code == 404
    audit = place.context.catalog.find(Audit, {"subject": "things@approved"})
    assert sorted(row.name for row in audit) == ["tag.drop", "tag.set", "tag.set"]


NO_TAGS = (
    "v2", "v", "2026-11-01", "7", "../x", "..", "A", "a b", "x" * 101, "a\n", "", "{{7*7}}", "\u00e9", "a/b", "-rf", "$(id)", "a\0b",
    "\ud800", "..;", "%2e%2e",
)  # fmt: skip


@pytest.mark.parametrize("tag", NO_TAGS)
def test_what_is_no_tag(tag: str, place: Place) -> None:
    from leptonai.core.refs import check_tag

    with pytest.raises(Invalid):
        check_tag(tag)
    if tag.startswith("v") or tag == "2026-11-01":
        return
    with pytest.raises(Invalid):
        DatasetRef.parse(f"things@{tag}")


def test_a_reference_reads_as_it_is_written() -> None:
    found = DatasetRef.parse("datasets:/things@approved?part=train&train_size=0.8&seed=0&stratify=true")
    assert (found.name, found.tag, found.version, found.on) == ("things", "approved", None, None)
    assert DatasetRef.parse(str(found)) == found
    assert str(found.model_copy(update={"version": 3, "splits": ()})) == "datasets:/things@v3"


def test_shredding_takes_tags_label_tasks_answers_and_reports(place: Place) -> None:
    one, two, _ = versions(place)
    catalog = place.context.catalog
    place.ask("PUT", "/datasets/things/tags/approved", json={"version": 1})
    place.ask("PUT", "/datasets/other/tags/approved", json={"version": 1})
    task = LabelTask.new(name="things", data="datasets:/things@v1", column="y", classes=("a", "b"), rows=(0, 1))
    answers = LabelAnswers.new(name="things", task=task.id, answers={0: "a"})
    stays = LabelTask.new(name="other", data="datasets:/other@v1", column="y", classes=("a", "b"), rows=(0, 1))
    report, labels, foreign = (place.upload(text) for text in (b"values of rows", b"labels of rows", b"of others"))
    told = [
        Run.new(
            name="p",
            stage="profile",
            spec={"data": "datasets:/things@v1"},
            state=RunState.SUCCEEDED,
            result={"report": report},
        ),
        Run.new(
            name="l", stage="auto_label", spec={"data": two.id}, state=RunState.SUCCEEDED, result={"labels": labels}
        ),
    ]
    other = Run.new(
        name="o",
        stage="profile",
        spec={"data": "datasets:/things-2@v1"},
        state=RunState.SUCCEEDED,
        result={"report": foreign},
    )
    catalog.change(add=(task, answers, stays, *told, other))
    answer = place.ask("POST", "/datasets/things/shred")
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert (receipt["reports"], receipt["labels"], receipt["readable"]) == (2, 2, 0)
    assert {report, labels} <= set(receipt["destroyed"])
    assert foreign not in receipt["destroyed"]
    assert [left.id for left in catalog.find(LabelTask)] == [stays.id]
    assert catalog.find(LabelAnswers) == []
    assert [tag.name for tag in catalog.find(Tag)] == []
    assert [run.id for run in catalog.find(Run)] == [other.id]
    assert place.ask("GET", f"/blobs/{report}").status_code == 404
    assert one.id not in {left.id for left in catalog.find(Dataset)}
