"""Tables as rows of numbers, read piece by piece: CSV, TSV, Parquet, ``.npy``, standard input."""

from uoro.tables.columns import Column as Column
from uoro.tables.columns import Columns as Columns
from uoro.tables.head import Wanted as Wanted
from uoro.tables.source import open_table as open_table
