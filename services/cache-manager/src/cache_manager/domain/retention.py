"""How long an unused copy stays: the rule of its dataset, else its project, else its site, else the service's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cache_manager.domain.charge import Site
from cache_manager.domain.entry import Entry


@dataclass(frozen=True)
class Rule:
    """The copies of a dataset, or of a whole project if that is None, stay unused for `seconds` at most."""

    project: str
    dataset: str | None
    seconds: float

    @property
    def id(self) -> str:
        """Return `<project>` or `<project>.<dataset>`."""
        return self.project if self.dataset is None else f"{self.project}.{self.dataset}"


@dataclass(frozen=True)
class AgeLimit:
    """Seconds that a copy may be unused, and whose rule that is. None: a pin keeps it."""

    seconds: float | None
    source: str


class Retention:
    """The rules, ready to be asked."""

    def __init__(self, rules: Iterable[Rule], sites: Iterable[Site], default: float) -> None:
        self._rules = {rule.id: rule.seconds for rule in rules}
        self._sites = {site.id: site.age_out for site in sites}
        self._default = default

    def limit(self, entry: Entry) -> AgeLimit:
        """Return for how long `entry` may be unused: pin over dataset over project over site over the default."""
        if entry.pins:
            return AgeLimit(None, "pin")
        of_dataset = self._rules.get(f"{entry.project}.{entry.dataset}")
        if of_dataset is not None:
            return AgeLimit(of_dataset, "dataset")
        of_project = self._rules.get(entry.project)
        if of_project is not None:
            return AgeLimit(of_project, "project")
        of_site = self._sites.get(entry.site)
        return AgeLimit(self._default, "default") if of_site is None else AgeLimit(of_site, "site")
