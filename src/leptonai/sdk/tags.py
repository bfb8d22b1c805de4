"""Tags of dataset versions, as user code holds them."""

from typing import TYPE_CHECKING, Any

from leptonai.core.errors import Unsupported
from leptonai.core.refs import check_tag

if TYPE_CHECKING:
    from leptonai.core.nouns import Dataset
    from leptonai.sdk.client import Client


class Tagged:
    """What a dataset version knows of its tags."""

    record: "Dataset"
    _client: "Client"
    _splits: Any

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that point at this version now."""
        found = self._client.http.pages("/tags", params={"name": self.record.name}, limit=10_000)
        return tuple(sorted(tag["tag"] for tag in found if tag["dataset"] == self.record.id))

    def tag(self, *names: str) -> None:
        """Point tags at this version: ``churn@approved`` is it from then on, wherever a reference is taken.

        A tag that another version held moves. A version with a tag is not deleted. Raises `Invalid` for what is no tag.
        """
        if self._splits:
            raise Unsupported(
                f"a tag names a whole version: use leptonai.get_dataset('{self.record.name}@v{self.record.version}')"
            )
        for name in map(check_tag, names):
            self._client.http.call(
                "PUT", f"/datasets/{self.record.name}/tags/{name}", json={"version": self.record.version}
            )

    def untag(self, *names: str) -> None:
        """Take tags of this dataset away, whichever version holds them. Raises `NotFound`."""
        for name in map(check_tag, names):
            self._client.http.call("DELETE", f"/datasets/{self.record.name}/tags/{name}")


def by_dataset(via: "Client", name: str | None) -> dict[str, str]:
    """Return the tags of dataset versions as text, by the id of the version."""
    found: dict[str, list[str]] = {}
    for tag in via.http.pages("/tags", params={"name": name}, limit=10_000):
        found.setdefault(tag["dataset"], []).append(tag["tag"])
    return {id: ", ".join(sorted(tags)) for id, tags in found.items()}
