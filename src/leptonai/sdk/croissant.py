"""A dataset version described in Croissant 1.1 (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html)."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.sdk import exports

if TYPE_CHECKING:
    from leptonai.sdk.datasets import Dataset

CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "arrayShape": "cr:arrayShape", "citeAs": "cr:citeAs",
    "column": "cr:column", "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataBiases": "cr:dataBiases", "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "excludes": "cr:excludes", "extract": "cr:extract", "field": "cr:field", "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes",
    "isArray": "cr:isArray", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5",
    "parentField": "cr:parentField", "path": "cr:path", "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/", "readLines": "cr:readLines", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform", "unArchive": "cr:unArchive", "value": "cr:value",
}  # fmt: skip

_TYPES = {
    FeatureType.NUMBER: "sc:Float", FeatureType.INTEGER: "sc:Integer", FeatureType.BOOLEAN: "sc:Boolean",
    FeatureType.DATETIME: "sc:DateTime",
}  # fmt: skip
_ARRAYS = {"uint8": "cr:UInt8", "float32": "cr:Float32", "float64": "cr:Float64"}
_ROWS = "rows"
_PLAIN = re.compile(r"\w[\w-]*(\.[\w-]+)*")
_FILE = "rows.parquet"


def metadata(dataset: "Dataset", columns: Sequence[str] | None = None, file: Path | None = None) -> dict[str, Any]:
    """Return the metadata; of the rows in `file`, a Parquet file, where one is given."""
    from datetime import UTC

    record = dataset.record
    chosen = exports.chosen(dataset, columns)
    ids = _ids([column.name for column in chosen])
    fields = [_field(column, id, column.name == dataset.target) for column, id in zip(chosen, ids, strict=True)]
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": record.name,
        "description": f"{dataset.rows:,} rows and {len(fields)} columns; version {record.version} of {record.name}, {dataset.ref}.",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "version": f"{record.version}.0.0",
        "identifier": f"sha256:{record.digest}",
        "url": dataset.ref,
        "dateCreated": record.created.astimezone(UTC).isoformat(timespec="seconds"),
        "datePublished": record.created.astimezone(UTC).isoformat(timespec="seconds"),
        "recordSet": [{"@type": "cr:RecordSet", "@id": _ROWS, "name": _ROWS, "field": fields}],
    }
    found["distribution"] = [_file(dataset, file)]
    return found


def _file(dataset: "Dataset", file: Path | None) -> dict[str, Any]:
    """Describe the Parquet file: the one given, or the one that an export would write, by the digest of its content."""
    about = {"@type": "cr:FileObject", "@id": _FILE, "name": _FILE, "encodingFormat": "application/x-parquet"}
    if file is None:
        words = "Encrypted on its server; `lepton dataset export` writes the file. sha256 is the digest of its content."
        return {**about, "contentUrl": dataset.ref, "description": words, "sha256": dataset.digest}
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {**about, "contentUrl": file.name, "contentSize": f"{file.stat().st_size} B", "sha256": digest}


def _ids(names: Sequence[str]) -> list[str]:
    """Return what fields are called in the metadata: the column's name where it can be part of an address, else what is left of it."""
    found: list[str] = []
    for number, name in enumerate(names):
        plain = name if _PLAIN.fullmatch(name) else f"{re.sub(r'[^A-Za-z0-9]+', '_', name)[:60].strip('_')}_{number}"
        found.append(plain if plain not in found and plain not in names[number + 1 :] else f"{plain}__{number}")
    return found


def _field(column: Column, id: str, is_target: bool) -> dict[str, Any]:
    kinds = [_ARRAYS.get(column.dtype, "sc:Float")] if column.shape else [_TYPES.get(column.type) or _class(column)]
    if is_target and column.type in (FeatureType.CATEGORY, FeatureType.BOOLEAN):
        kinds.append("https://www.wikidata.org/wiki/Q107196205")  # what Croissant calls a label
    found: dict[str, Any] = {
        "@type": "cr:Field", "@id": f"{_ROWS}/{id}", "name": column.name,
        "description": f"{column.type.value}{', the target' if is_target else ''}",
        "dataType": kinds if len(kinds) > 1 else kinds[0],
    }  # fmt: skip
    if column.shape:
        found |= {"isArray": True, "arrayShape": ",".join(map(str, column.shape))}
    return {**found, "source": {"fileObject": {"@id": _FILE}, "extract": {"column": column.name}}}


def _class(column: Column) -> str:
    return "sc:Integer" if column.dtype == "int64" else "sc:Text"


def write(dataset: "Dataset", path: Path, columns: Sequence[str] | None, *, mask: bool = False) -> int:
    """Write the metadata to `path` and the rows to a Parquet file beside it; return the number of rows."""
    rows = path.with_suffix(".parquet")
    count = exports.parquet(dataset, rows, columns, mask=mask)
    text = json.dumps(metadata(dataset, columns, rows), indent=2, ensure_ascii=False) + "\n"

    def whole(file: Any) -> int:
        file.write(text.encode())
        return count

    return exports.written(path, whole)
