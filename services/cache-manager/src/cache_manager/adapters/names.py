"""The collections of the cache manager's database."""

ENTRIES = "entries"
SITES = "sites"
QUOTAS = "quotas"
RETENTION = "retention"
PREFETCH = "prefetch"
