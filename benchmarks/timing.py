"""What the benchmarks share: who is measured, where, and the ways in turn, so that a machine's drift hits all alike."""

import os
import platform
import statistics
import time


def machine():
    """Describe the machine and the versions, in two lines."""
    from engine import backend  # which loads a framework; a process that only starts others needs none

    versions = "; ".join(f"{name} {version}" for name, version in backend.versions().items())
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return (
        f"{platform.platform()}, {cores} cores, load {load:.1f}; backend {backend.NAME}; {backend.device()}\n{versions}"
    )


def seconds(function, *arguments):
    """Time one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def both(function):
    """Time one call: seconds of the clock, and of the processor in all threads."""
    start = time.process_time()
    clock = seconds(function)
    return clock, time.process_time() - start


def each(function, times):
    """Call a function once to warm up, then so many times; return the seconds of a call."""
    function()
    return seconds(lambda: [function() for _ in range(times)]) / times


def in_turn(ways, rounds):
    """Call each way once to compile, then all of them in turn.

    Args:
        ways: dict from name to a function without arguments.
        rounds: int.

    Returns:
        dict from name to the median seconds of a call.
    """
    return {name: statistics.median(values) for name, values in _times(ways, rounds).items()}


def processor_seconds(ways, rounds):
    """Do what `in_turn` does, and return the fewest seconds of processor time: what a busy machine disturbs least."""
    return {name: min(values) for name, values in _times(ways, rounds, time.process_time).items()}


def _times(ways, rounds, clock=time.perf_counter):
    for function in ways.values():
        function()
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, function in ways.items():
            start = clock()
            function()
            times[name].append(clock() - start)
    return times
