"""Tables handed over in Python as named columns: dicts of arrays, structured arrays, pandas, Polars and Arrow.

A column is a numpy array (masked where it has nulls) or a list of objects; ``model.values`` reads both.  Nothing is imported that the
object does not bring: pandas is known by its loaded module, all others by Arrow's C interface, which pyarrow reads (extra ``arrow``).
"""

from __future__ import annotations

import array
import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow.errors import MissingExtraError
from asyncflow.model.batch import Batch

Values: TypeAlias = "NDArray[Any] | list[Any]"
Columns: TypeAlias = dict[str, Values]


UNCHANGING = frozenset({int, float, str, bool, NoneType, bytes, dt.datetime, dt.date})
"""Types whose values are no arrays, and never change."""


class MisshapenError(ValueError):
    """A table whose columns do not make rows."""


class NoRecordError(TypeError):
    """An object that is neither a row nor a table."""


def columns_of(item: Any) -> Columns | None:
    """A table's columns, all of one length; None for an object that is no table.  MisshapenError where they differ in length."""
    if isinstance(item, Batch):
        return {name: item[name] for name in item.schema.names}
    if isinstance(item, Mapping):
        return _of_mapping(item) if holds_columns(item) else None
    if isinstance(item, np.ndarray | np.void):
        return _of_structured(item)
    if _is_pandas(item, "DataFrame"):
        return {
            text: pandas_column(item.iloc[:, place])
            for place, name in enumerate(item.columns)
            if (text := key_text(name)) is not None
        }
    if is_arrow(item):
        try:
            table = arrow_table(item)
        except MissingExtraError:
            raise
        except Exception:  # a type that pyarrow does not know
            if not _is_of(item, "polars", "DataFrame"):
                raise
            return {series.name: _polars_column(series) for series in item}
        return dict(zip(table.column_names, map(arrow_column, table.columns), strict=True))
    return None


def rows_of(item: Any) -> int:
    """How many rows a table has of which no column can be read."""
    if isinstance(item, Mapping):
        return 0
    return int(item.num_rows) if hasattr(item, "num_rows") else len(item) if hasattr(item, "__len__") else 0


def members_of(value: Any) -> Any:
    """A record of a structured array as a dict of its fields; any other value as it is."""
    if isinstance(value, np.void) and value.dtype.names is not None:
        return {name: value[name] for name in value.dtype.names}
    return value


def key_text(key: Any) -> str | None:
    """A key as :mod:`json` writes it in an object; None for one that it cannot."""
    if isinstance(key, str):
        return str(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return repr(key) if isinstance(key, int | float) and type(key) in (int, float) else None


# -- dicts of arrays -------------------------------------------------------------------------------------------------


def holds_columns(item: Mapping[Any, Any]) -> bool:
    """Some of its values are arrays: it is a table, not a row."""
    return any(map(is_column, item.values()))


def is_row(item: Any) -> bool:
    """A dict of values, one row."""
    if type(item) is dict and UNCHANGING.issuperset(map(type, item.values())):
        return True
    try:
        return isinstance(item, Mapping) and not holds_columns(item)
    except Exception:  # an object that cannot even be asked: told with the row
        return True


def is_column(value: Any) -> bool:
    """An array of one dimension or more, or what stands for one."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    if isinstance(value, array.array) or _is_of(value, "polars", "Series"):
        return True
    if not hasattr(type(value), "__array__") and not is_arrow(value):
        return False
    return not isinstance(value, np.generic | Batch) and bool(np.ndim(value))


def _of_mapping(item: Mapping[Any, Any]) -> Columns:
    columns: Columns = {}
    single: dict[str, Any] = {}
    for key, value in item.items():
        if (name := key_text(key)) is None:
            continue
        if is_column(value):
            columns[name] = column_of(value)
        elif isinstance(value, list | tuple):
            columns[name] = list(value)
        else:
            single[name] = value
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise MisshapenError(
            "the arrays differ in length: " + ", ".join(f"{name} {n}" for name, n in lengths.items())
        )
    count = next(iter(lengths.values()))
    return columns | {name: [value] * count for name, value in single.items()}


def column_of(value: Any) -> Values:
    """One column, however it is held."""
    if isinstance(value, np.ndarray):
        return value
    if _is_pandas(value, "Series"):
        return pandas_column(value)
    if _is_of(value, "polars", "Series"):
        return _polars_column(value)
    if is_arrow(value):
        import pyarrow as pa

        return arrow_column(value if isinstance(value, pa.ChunkedArray) else pa.chunked_array(value))
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Index | pandas.api.extensions.ExtensionArray):
        return pandas_column(pandas.Series(value))
    return np.asarray(value)


def _of_structured(item: NDArray[Any] | np.void) -> Columns | None:
    if item.dtype.names is None:
        return None
    rows = np.ma.atleast_1d(item) if isinstance(item, np.ma.MaskedArray) else np.atleast_1d(item)
    if rows.ndim > 1:
        raise MisshapenError(f"a table of {rows.ndim} dimensions")
    return {name: rows[name] for name in item.dtype.names}


# -- pandas ----------------------------------------------------------------------------------------------------------


def _is_of(value: Any, library: str, kind: str) -> bool:
    """It is of this kind of a library's objects; a library that is not loaded has made none."""
    return (module := sys.modules.get(library)) is not None and isinstance(value, getattr(module, kind, ()))


def _is_pandas(value: Any, kind: str) -> bool:
    return _is_of(value, "pandas", kind)


def is_frame(value: Any) -> bool:
    """A pandas DataFrame."""
    return _is_pandas(value, "DataFrame")


def is_table(value: Any) -> bool:
    """One table by itself, which is no iterable of rows."""
    structured = isinstance(value, np.ndarray) and value.dtype.names is not None
    return structured or isinstance(value, Batch) or is_frame(value) or is_arrow(value)


def pandas_column(series: Any) -> Values:
    """A Series; what pandas takes for missing is null, NaN among it."""
    kind = series.dtype
    missing = series.isna().to_numpy()
    if isinstance(kind, np.dtype):
        values: NDArray[Any] = series.to_numpy()
        if kind.kind in "fc" and missing.any():
            return np.ma.masked_array(values, missing)
        if kind.kind != "O":
            return values
    elif getattr(kind, "tz", None) is not None and hasattr(series, "dt"):
        values = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        if values.dtype.kind == "M":
            return values
    elif hasattr(kind, "pyarrow_dtype"):
        import pyarrow as pa

        return arrow_column(pa.chunked_array(pa.array(series)))
    elif getattr(getattr(kind, "numpy_dtype", None), "kind", "O") in "biuf" and hasattr(
        kind, "construct_array_type"
    ):
        values = series.to_numpy(dtype=kind.numpy_dtype, na_value=0)
        return np.ma.masked_array(values, missing) if missing.any() else values
    objects = series.astype(object).tolist()
    return [None if gone else value for value, gone in zip(objects, missing.tolist(), strict=True)]


# -- Arrow -----------------------------------------------------------------------------------------------------------


def is_arrow(value: Any) -> bool:
    """It shows itself through Arrow's C interface: a table, a reader, a batch, an array; of pyarrow, Polars or another."""
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


def arrow_table(item: Any) -> Any:
    """A pyarrow Table of any table; MissingExtraError without pyarrow."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError.of("pyarrow", "arrow") from error
    return item if isinstance(item, pa.Table) else pa.table(item)


def _polars_column(series: Any) -> Values:
    """A Series of Polars; of a type that pyarrow does not know, its objects."""
    import pyarrow as pa

    try:
        return arrow_column(pa.chunked_array(series))
    except Exception:
        objects: list[Any] = series.to_list()
        return objects


def arrow_column(column: Any) -> Values:
    """A pyarrow ChunkedArray."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind) and (
        pa.types.is_primitive(kind.value_type) or pa.types.is_boolean(kind.value_type)
    ):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_date64(kind):
        column = column.cast(pa.date32())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_duration(kind):
        instants: NDArray[Any] = column.to_numpy()
        return instants
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        objects: Sequence[Any] = column.to_pylist()
        return list(objects)
    if not column.null_count:
        values: NDArray[Any] = column.to_numpy()
        return values
    missing = column.is_null().to_numpy()
    if pa.types.is_float16(kind):
        filled = np.array([0 if each is None else each for each in column.to_pylist()], np.float16)
    else:
        filled = column.fill_null(pa.scalar(0).cast(kind)).to_numpy()
    return np.ma.masked_array(filled, missing)
