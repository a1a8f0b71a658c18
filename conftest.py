"""Fixtures that start the real servers are available to every test of the workspace."""

pytest_plugins = ["millrace_stack.pytest_plugin"]
