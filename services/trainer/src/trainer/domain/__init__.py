"""Rules of the queue: jobs, devices, the planner. Standard library only."""
