"""How a Service moves from one version to another, as user code asks for it: the part of `sdk.services.Service` that does."""

from collections.abc import Mapping
from typing import Any, Self

from leptonai.core.nouns import Service as ServiceRecord
from leptonai.sdk.http import Http


class Rolling:
    """Promote, roll back, ask why, divide the requests, test two versions."""

    record: ServiceRecord

    @property
    def http(self) -> Http:
        """The connection to its server."""
        raise NotImplementedError

    def promote(self) -> Self:
        """Have the new version of its rollout answer all requests now. Raises `Conflict` when no rollout goes on."""
        return self._changed("POST", "promote")

    def rollback(self) -> Self:
        """Have the version before answer all requests again, at once while a rollout goes on. Raises `Conflict` without one."""
        return self._changed("POST", "rollback")

    def why(self) -> str:
        """Return in sentences, with figures, what became of its last rollout and why."""
        return "\n".join(self.http.call("GET", f"/services/{self.record.name}/why")["sentences"])

    def split(self, sticky: str | None = None, **variants: tuple[str, int]) -> Self:
        """Divide its requests by hand: ``split(stable=("churn/3", 90), canary=("churn/4", 10))``.

        Stable and canary must sum to 100; a ``shadow`` gets copies of so many per cent, and nobody gets its answers. With
        `sticky` ("key", or the name of a header) a caller keeps his version. Without ``stable`` it is the one that answers,
        with what is left.
        """
        if "stable" not in variants:
            left = 100 - sum(percent for name, (_, percent) in variants.items() if name == "canary")
            variants = {"stable": (self.record.variants[0].model, left), **variants}
        shares = [{"name": name, "model": model, "percent": percent} for name, (model, percent) in variants.items()]
        shares.sort(
            key=lambda share: (
                ("stable", "canary", "shadow").index(str(share["name"]))
                if share["name"] in ("stable", "canary", "shadow")
                else 3
            )
        )
        return self._changed("PUT", "variants", {"variants": shares} | _given(sticky=sticky))

    def test(self, model: str, **options: Any) -> Self:
        """Test a version against the one that answers, by what callers say of its answers; it ends by itself.

        `percent` of the callers get it (50); `alpha` is the chance to find a difference that is none (0.05), a difference
        under `least` is none (0.01), and it takes `seconds` at most. Callers post ``{"request_id", "value": 0 to 1}`` to
        ``/services/NAME/feedback``.
        """
        return self._changed("POST", "test", {"model": model, **options})

    def _changed(self, method: str, tail: str, body: Mapping[str, Any] | None = None) -> Self:
        found = self.http.call(method, f"/services/{self.record.name}/{tail}", json=body)
        self.record = ServiceRecord.model_validate(found)
        return self


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def step_of(record: ServiceRecord) -> str | None:
    """Return where its rollout is, for people to read; None when none goes on."""
    found = record.rollout
    if found is None or not found.going:
        return None
    steps = f", step {found.step + 1} of {len(found.guard.steps)}" if found.phase == "canary" else ""
    return f"{found.strategy}: {found.phase}{steps}"
