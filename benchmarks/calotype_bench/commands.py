"""What each command of `calotype-bench` does."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from calotype import backends, files
from calotype.bundle import Bundle
from calotype.errors import BackendError, RequestError
from calotype_bench import (
    agreement,
    comparing,
    floor,
    kept,
    machine,
    operators,
    progress,
    rates,
    report_text,
    requested,
    results,
    rows,
)
from calotype_bench import latency as measuring
from calotype_bench.jobs import Engine
from calotype_bench.measurement import Measurement
from calotype_bench.order import Order
from calotype_bench.report_html import page
from calotype_bench.results import Comparison, Latency, Seconds, Techniques
from calotype_bench.tables import bring_up_to_date

PARTS = ("unet_step", "vae_decoder")  # whose time is told by operator


def latency(options: argparse.Namespace) -> None:
    """Measure, print tables, and write the result where -o says.

    What is known after each opening lies beside it meanwhile, as `*.partial.json`, so that little is lost. BackendError
    where nothing could be measured.
    """
    results.check_writable(options.output)
    bundles = [Bundle.open(path) for path in options.bundles]
    engines = rows.engines(options, bundles)
    references = rows.exact(options, engines)
    jobs = requested.timed(options, bundles[0])
    if options.checkpoint is not None:
        folder = rows.checkpoint(options.checkpoint, options.config, bundles, progress.TERMINAL)
        engines, references = (rows.located(each, folder) for each in (engines, references))
    speed = partial(_rates, options, floor.precisions(bundles, engines))
    watch = machine.Watch(options.device)
    found, taken = speed(), tuple[Measurement, ...]()
    drawing = measuring.measure(engines, jobs, _order(options), progress.TERMINAL, references)
    for taken in drawing:
        kept.partly(_measured(options, bundles, watch, taken, found), options.output)
        found = rates.at_best(found, speed, partial(print, file=sys.stderr))
    result = _measured(options, bundles, watch, taken, found)
    if not options.no_operators:
        result = dataclasses.replace(result, operators=_operators(options, taken[0]))
    kept.whole(result, options.output)
    print(report_text.latency(result))
    if not any(row.samples for measurement in taken for row in measurement.rows):
        raise BackendError("no engine could be measured", "the table says why")


def compare(options: argparse.Namespace) -> None:
    """Draw the same requests with everything, print a table, and write the result where -o says.

    What is known after each engine lies beside it meanwhile, as `*.partial.json`. BackendError where no bundle could
    be compared.
    """
    results.check_writable(options.output)
    bundles = [Bundle.open(path) for path in options.bundles]
    engines = rows.compared(options, bundles)
    jobs = requested.compared(options, bundles[0])
    folder = rows.checkpoint(options.against, options.config, bundles, progress.TERMINAL)
    engines = rows.located(engines, folder)
    watch = machine.Watch(options.device)
    outcome = comparing.Outcome((), (), {})
    for outcome in comparing.compare(engines, jobs, options.pictures, progress.TERMINAL, options.timeout):
        kept.partly(_compared(options, bundles, watch, engines, outcome), options.output)
    result = _compared(options, bundles, watch, engines, outcome)
    kept.whole(result, options.output)
    print(report_text.comparison(result))
    if not any(pair.engine.startswith("calotype ") for pair in outcome.pairs):
        raise BackendError("no bundle could be compared", "the table says why")


def techniques(options: argparse.Namespace) -> None:
    """Run the variants of each program in turn, print a table, and write the result where -o says."""
    results.check_writable(options.output)
    bundle = Bundle.open(options.bundle)
    backend = backends.choose("openvino", bundle.manifest.precision)
    from calotype_bench import techniques as gaining  # imports openvino

    watch = machine.Watch()
    plan = gaining.Plan(options.runs, options.openings, options.threads)
    found = gaining.measure(bundle, plan, progress.counted)
    result = Techniques(
        title=options.title or options.bundle.name,
        command=("calotype-bench", *options.arguments),
        machine=watch.describe(),
        bundles=rows.described([bundle]),
        backend=backend,
        programs=found,
    )
    kept.whole(result, options.output)
    print(report_text.techniques(result))


def report(options: argparse.Namespace) -> None:
    """Write one page about results. RequestError where there is none among the files."""
    results.check_writable(options.output)
    others = [path for path in options.results if results.is_other(path)]
    for path in others:
        print(f"left out: {path}: figures of another command", file=sys.stderr)
    found = [results.read(path) for path in options.results if path not in others]
    if not found:
        raise RequestError("no result of calotype-bench latency, compare or techniques is among the files")
    with files.placed(options.output, "the report") as file:
        file.write_text(page(found), "utf-8")
    print(f"written: {options.output}")


def agree(options: argparse.Namespace) -> None:
    """Print the ratios of two results side by side. BackendError where intervals do not overlap, or there are none."""
    one, other = (results.read(path) for path in options.results)
    if not (isinstance(one, Latency) and isinstance(other, Latency)):
        raise RequestError("agree: expected two results of calotype-bench latency")
    found = agreement.agreement(one, other)
    for each in agreement.differences(one, other):
        print(each)
    print(agreement.told(found))
    judged = [each for each in found if each.judged]
    apart = [each.subject for each in judged if not each.agree]
    if apart:
        raise BackendError(f"{len(apart)} of {len(judged)} intervals do not overlap: {'; '.join(apart)}")
    if not judged:
        raise BackendError("no ratio has an interval in both", "measure in six processes of each at least")


def tables(options: argparse.Namespace) -> None:
    """Bring the tables of Markdown files up to date. RequestError with --check where one is not."""
    for path in options.files:
        try:
            before = path.read_text("utf-8")
            after = bring_up_to_date(before, path.parent)
        except UnicodeError as error:
            raise RequestError(f"{path} is no text in UTF-8: {error}") from error
        except RequestError as error:
            raise RequestError(f"{path}: {error}") from error
        if options.check and before != after:
            raise RequestError(f"{path}: its tables are out of date", f"calotype-bench tables {path}")
        if before != after:
            path.write_text(after, "utf-8")
            print(f"written: {path}")


def _rates(options: argparse.Namespace, precisions: Sequence[str]) -> Mapping[str, rates.Rates]:
    """What this machine reaches now, by precision. BackendError."""
    progress.said(f"measuring how fast this machine multiplies in {', '.join(precisions)}")
    return rates.measure(precisions, options.device, options.threads, options.timeout)


def _order(options: argparse.Namespace) -> Order:
    return Order(options.runs, options.openings, options.one_at_a_time, options.timeout)


def _measured(
    options: argparse.Namespace,
    bundles: Sequence[Bundle],
    watch: machine.Watch,
    taken: Sequence[Measurement],
    found: Mapping[str, rates.Rates],
) -> Latency:
    """The result, without operators."""
    return Latency(
        title=options.title or options.bundles[0].name,
        command=("calotype-bench", *options.arguments),
        machine=watch.describe(),
        bundles=rows.described(bundles),
        measurements=tuple(taken),
        rates=found,
        floors=tuple(floor.of_measurement(bundles, each, found) for each in taken),
        operators={},
        warm_up=_order(options).warm_up(options.device),
    )


def _compared(
    options: argparse.Namespace,
    bundles: Sequence[Bundle],
    watch: machine.Watch,
    engines: Sequence[Engine],
    outcome: comparing.Outcome,
) -> Comparison:
    return Comparison(
        title=options.title or options.bundles[0].name,
        command=("calotype-bench", *options.arguments),
        machine=watch.describe(),
        bundles=rows.described(bundles),
        reference=engines[0].label,
        noise=tuple(engine.label for engine in engines[1:] if engine.name == "eager"),
        failures=outcome.failures,
        expected=outcome.expected,
        pairs=outcome.pairs,
    )


def _operators(options: argparse.Namespace, measurement: Measurement) -> dict[str, dict[str, Seconds | str]]:
    """Of every bundle that could be loaded, by row and program."""
    found: dict[str, dict[str, Seconds | str]] = {}
    for row in measurement.rows:
        if row.engine.name == "calotype" and row.ready is not None:
            progress.said(f"profiling {row.engine.label} by operator")
            found[row.engine.label] = {
                part: operators.measure(
                    Path(row.engine.path),
                    part,
                    row.ready.backend,
                    options.device,
                    options.threads,
                    options.timeout,
                )
                for part in PARTS
            }
    return found
