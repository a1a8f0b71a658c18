"""The pages, by subject. Each asks the API and renders a template; fragments of a page are pages of their own."""

from catalog.console.pages import (
    cache,
    checks,
    datasets,
    garbage,
    lineage,
    overview,
    passing,
    removal,
    runs,
    serving,
    signin,
    sites,
    versions,
)

SUBJECTS = (
    *(signin, overview, datasets, removal, garbage, versions, checks, lineage, cache, sites),
    *(runs, serving, passing),
)
routers = tuple(subject.router for subject in SUBJECTS)

__all__ = ["routers"]
