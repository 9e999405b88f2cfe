"""python -m bench.destinations [--small] [NAME ...]: print what each scenario should give, and gives."""

import argparse
import time

from bench.destinations.scenarios import BY_NAME, NOT_BUILT, within


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.destinations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(BY_NAME))
    parser.add_argument("--small", action="store_true", help="the runs of the tests")
    options = parser.parse_args()
    for name in set(options.names) - set(BY_NAME):
        parser.error(f"no such scenario: {name}")
    print(f"{'':2} {'scenario':20} {'figure':28} {'expected':>16} {'measured':>12}")
    broken = sum(table(BY_NAME[name], options.small) for name in options.names or BY_NAME)
    if not options.names:
        for number, why in NOT_BUILT.items():
            print(f"{number:2} not run: {why}")
    return 1 if broken else 0


def table(scenario, is_small) -> int:
    """Run a scenario and print its rows; return how many figures are out of their bounds."""
    started = time.monotonic()
    figures = scenario.run(is_small)
    bounds = scenario.small if is_small else scenario.bounds
    broken = scenario.broken(figures, is_small)
    for figure, value in figures.items():
        bound = bounds.get(figure)
        mark = "  OUT" if any(f": {figure} is" in line for line in broken) else ""
        expected = within(bound) if bound else ""
        print(
            f"{scenario.number or '':2} {scenario.name:20} {figure:28} {expected:>16} {value:>12.5g}{mark}", flush=True
        )
    print(f"   ({time.monotonic() - started:.1f} s)", flush=True)
    return len(broken)


if __name__ == "__main__":
    raise SystemExit(main())
