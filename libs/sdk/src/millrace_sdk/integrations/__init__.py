"""Millrace inside of other people's frameworks. Each module needs its extra: `millrace-sdk[kedro]`, `[spark]`."""
