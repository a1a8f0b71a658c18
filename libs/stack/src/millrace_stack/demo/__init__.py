"""The main job on real data, told step by step: what `make demo` runs."""
