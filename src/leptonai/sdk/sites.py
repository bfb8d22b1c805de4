"""Sites as user code holds them: where Runs and Services live."""

from datetime import UTC, datetime
from typing import Any

from leptonai.core.nouns import Site as SiteRecord
from leptonai.core.refs import check_name
from leptonai.sdk import client, show

_SILENT_SECONDS = 60.0  # an agent asks for work more often than this


class Site:
    """A place where Runs and Services live, such as ``home``, the machine of the server."""

    def __init__(self, record: SiteRecord):
        self.record = record

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def seen(self) -> datetime | None:
        """When its agent last asked for work."""
        return self.record.seen

    @property
    def alive(self) -> bool:
        """Whether its agent was heard of lately."""
        return self.seen is not None and (datetime.now(UTC) - self.seen).total_seconds() < _SILENT_SECONDS

    @property
    def plane(self) -> str | None:
        """The URL of its serving plane."""
        return self.record.plane

    @property
    def facts(self) -> dict[str, Any]:
        """What its agent says of the machine: cores, memory, frameworks."""
        return dict(self.record.facts)

    def summary(self) -> dict[str, object]:
        """Return what a table shows of it."""
        facts = {"agent": show.ago(self.seen) or "never seen", "plane": self.plane or "not started", **self.facts}
        return {name: str(value) for name, value in facts.items()}

    def __repr__(self) -> str:
        return f"Site({self.name}, agent seen {show.ago(self.seen) or 'never'})"

    def _repr_html_(self) -> str:
        return show.card(f"Site {self.name}", self.summary())


def get_site(name: str = "home") -> Site:
    """Return a Site by name. Raises `NotFound`."""
    found = client.current().http.call("GET", f"/sites/{check_name(name, 'site')}")
    return Site(SiteRecord.model_validate(found))


def list_sites() -> list[Site]:
    """Return all Sites."""
    return [Site(SiteRecord.model_validate(item)) for item in client.current().http.pages("/sites")]
