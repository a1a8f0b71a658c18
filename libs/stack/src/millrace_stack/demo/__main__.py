"""`python -m millrace_stack.demo`: the whole loop on real data. Exit 0 only if every step really happened."""

from __future__ import annotations

import argparse
import secrets
import sys

from millrace.errors import MillraceError
from millrace_stack.demo.run import Options, run
from millrace_stack.demo.waiting import StepFailed


def options(arguments: list[str]) -> Options:
    """Return the parsed options."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the stack running at the end")
    parser.add_argument("--chaos", action="store_true", help="kill every service, Triton and the broker on the way")
    parser.add_argument("--seed", type=int, help="repeat the chaos of this seed")
    parser.add_argument("--wipe", action="store_true", help="delete the broker's whole store halfway")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else secrets.randbelow(10**6)
    return Options(keep=given.keep, chaos_seed=seed if given.chaos else None, wipe=given.wipe)


def main(arguments: list[str]) -> int:
    """Run the demo; on failure say which step did not happen."""
    try:
        return run(options(arguments))
    except (StepFailed, MillraceError) as error:
        sys.stderr.write(f"\ndemo failed: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
