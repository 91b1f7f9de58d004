from pathlib import Path

import orjson

from visionserve.files import write_atomically

SUFFIX = ".parquet"


def write_parquet(lines: Path, folder: Path) -> None:
    """Makes of a file of JSON lines the Parquet file of the same name in `folder`, and removes the lines.

    Columns: `image` string, `top5` list<struct<label: string, probability: float>>. However often it is stopped on the
    way and called again, each row is in it once.
    """
    import pyarrow as pa
    from pyarrow import parquet

    target = folder / (lines.stem + SUFFIX)
    if not target.exists():
        labels = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))
        schema = pa.schema([("image", pa.string()), ("top5", labels)])
        rows = [orjson.loads(line) for line in lines.read_bytes().splitlines()]
        buffer = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(rows, schema), buffer)
        write_atomically(target, buffer.getvalue().to_pybytes())
    lines.unlink()


def image_names(path: Path) -> list[str]:
    from pyarrow import parquet

    return parquet.read_table(path, columns=["image"])["image"].to_pylist()


def row_count(path: Path) -> int:
    from pyarrow import parquet

    return parquet.read_metadata(path).num_rows
