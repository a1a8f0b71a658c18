"""Rules and values of the monitor: pure functions, no driver, no clock."""
