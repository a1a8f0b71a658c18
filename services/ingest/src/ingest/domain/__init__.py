"""Landed data, where it may lie, and the jobs that turn it into versions; standard library only."""
