"""A component that does nothing, at once: what a queue and a process cost by themselves (`benchmarks/loop.py`).

Run as `python -m millrace_components.noop`. It imports nothing, so that its start is the interpreter's.
"""

if __name__ == "__main__":
    print("noop")  # noqa: T201 - a run's output is its log
