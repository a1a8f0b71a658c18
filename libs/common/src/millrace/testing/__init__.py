"""What tests share: in-memory adapters, builders, contract suites, fixtures. Never imported by the product."""
