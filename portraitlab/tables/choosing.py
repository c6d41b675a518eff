"""Choose the rows and seeds of a paper's table by a command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from portraitlab.tables.paper_table import PaperRow, PaperTable


@dataclass(frozen=True)
class TableJob:
    """A row with one seed, and the overrides that compose it."""

    row: PaperRow
    seed: int
    overrides: tuple[str, ...]


def choose(table: PaperTable, arguments: Sequence[str]) -> list[TableJob]:
    """List the jobs of a command line with `table=NAME`, in the order of rows, then of seeds.

    A setting that distinguishes the rows (fusion=concat,refiner) selects the rows with these
    values, `seed` gives the seeds, and any other setting applies to all rows, in place of the
    table's own. Raises ValueError where no row is left, or where a setting of all rows has several
    values.
    """
    # Sort the settings of the command line.
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    rows, seeds, common = list(table.rows), table.seeds, list[Override]()
    for override in parsed:
        name = override.key_or_group
        if name in table.row_settings:
            rows = _narrowed(table, rows, name, _values(override))
        elif name == "seed":
            seeds = _seeds(override)
        elif override.is_sweep_override():
            raise ValueError(
                f"{override.input_line}: with table={table.name} only seed and the settings of "
                f"its rows ({', '.join(table.row_settings)}) take several values"
            )
        else:
            common.append(override)

    # Compose each row with each seed.
    given = {override.key_or_group for override in common}
    own = [f"{name}={value}" for name, value in table.overrides.items() if name not in given]
    lines = [str(override.input_line) for override in common]
    return [
        TableJob(row, seed, (*lines, *own, *row.arguments, f"seed={seed}"))
        for row in rows
        for seed in seeds
    ]


def _narrowed(
    table: PaperTable, rows: list[PaperRow], name: str, values: Sequence[str]
) -> list[PaperRow]:
    left = [row for row in rows if row.overrides[name] in values]
    if not left:
        had = dict.fromkeys(row.overrides[name] for row in rows)
        raise ValueError(
            f"{name}={','.join(values)}: no row of table={table.name} has it; there are "
            f"{', '.join(f'{name}={value}' for value in had)}"
        )
    return left


def _seeds(override: Override) -> tuple[int, ...]:
    try:
        return tuple(int(value) for value in _values(override))
    except ValueError as error:
        raise ValueError(
            f"{override.input_line}: a seed is a whole number, and several are given as seed=0,1,2"
        ) from error


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [str(override.get_value_element_as_str())]
