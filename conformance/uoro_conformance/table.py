"""A report on the terminal."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uoro_conformance.report import Entry, Report

COLOURS = {
    "holds": "green",
    "not checked": "yellow",
    "undecided": "yellow",
    "unverifiable": "yellow",
}


def print_report(console: Console, report: Report) -> None:
    """Print the table, then in full whatever does not hold, then the summary."""
    table = Table(title=escape(report.subject), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("law", overflow="fold")
    table.add_column("verdict")
    for heading in ("gap", "allowed", "could have seen", "s"):
        table.add_column(heading, justify="right")
    for entry in report.entries:
        finding = entry.finding
        table.add_row(
            escape(entry.id),
            _verdict(entry),
            _number(finding.gap),
            _number(finding.allowed),
            _number(finding.resolves),
            f"{entry.seconds:.1f}",
        )
    console.print(table)
    for entry in report.entries:
        if not entry.finding.holds:
            console.print(f"[bold]{escape(entry.id)}[/]: {_verdict(entry)}")
            console.print(f"  {entry.finding}\n", markup=False, highlight=False, soft_wrap=True)
    for note in report.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for warning in report.warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", soft_wrap=True)
    settings = ", ".join(
        f"{name} {value}" for name, value in report.settings.items() if value != []
    )
    console.print(f"[dim]{escape(settings)}[/]", soft_wrap=True)
    colour = {0: "green", 1: "red"}.get(report.exit_status, "yellow")
    console.print(f"[bold {colour}]{escape(report.summary)}[/]", soft_wrap=True)


def _verdict(entry: Entry) -> str:
    """Colour a verdict, and say where it was not the expected one."""
    verdict = entry.finding.verdict
    text = f"[{COLOURS.get(verdict, 'bold red')}]{verdict}[/]"
    if entry.expected:
        text += (
            " [dim](though expected to fail)[/]" if entry.finding.holds else " [dim](expected)[/]"
        )
    return text


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"
