"""Kubernetes' own schemas, release by release, from its Go module; and a check of objects that knows no mercy.

Stricter than the API server: a field that a release does not know is an error, not a warning.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# go.sum's hash of each release's module, so that what a proxy gives is what was looked at.
RELEASES = {
    "v1.24.0": "h1:9qRjlCuMjooyFTXLxduMBT+MZSdROWa3idI1AXZirVs=",
    "v1.25.0": "h1:NwTRyLrdXTORd5V7DLlUltxDbl/KZjYDiRgwI+pBYGE=",
    "v1.26.0": "h1:fL8VMr4xlfTazPORLhz5fsvO5I3bsFpmynVxZTH1ItQ=",
    "v1.27.0": "h1:VCI2Qoksx2cv6mHu9g9KVH30ZHNtWSB/+9BtKLSqduM=",
    "v1.28.0": "h1:p8qq/VoNHnBWinLEi5LO2IvCfzFouN7Jhdz8+L++V+U=",
    "v1.29.0": "h1:DOLN7g8+nnAYBi8JHoW0+/MCrZKDPIqAxzLCXDXd0cg=",
    "v1.30.0": "h1:u3Yw8rNlo2NDSGaDpoxoHXLPQnEu1tfqHATKOJe94HY=",
    "v1.31.0": "h1:sYAB12TTWexXKp4RxqJMm/7EC+P0mNOgn4Xdj5eu7HM=",
    "v1.32.0": "h1:4BDBWSolqPrv8GC3YfZw0CJvh5kA1TPnoX0FxDVd+qc=",
    "v1.33.0": "h1:BP5Y5yIzUZVeBuE/ESZvnw6TNxjXbLsCckIkljE+R0U=",
    "v1.34.0": "h1:NvUrwPAVB4W3mSOpJ/RtNGHWWYyUP/xPaX5rUSpzA0w=",
    "v1.35.0": "h1:PUOojD8c8E3csMP5NX+nLLne6SGqZjrYCscptyBfWMY=",
    "v1.36.3": "h1:qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o=",
}
TYPES: dict[str, Any] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
Schema = dict[str, Any]


def definitions(release: str, folder: Path) -> Schema:
    """The release's OpenAPI definitions. Skips where Go or the module proxy is not to be had."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed: it fetches Kubernetes' schemas")
    (folder / "go.mod").write_text("module schemas\n")
    done = subprocess.run(
        [go, "mod", "download", "-json", f"k8s.io/kubernetes@{release}"],
        cwd=folder,
        # Held against RELEASES instead of the checksum database, which not every network reaches.
        env={**os.environ, "GOFLAGS": "-mod=mod", "GONOSUMDB": "k8s.io/kubernetes", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    module = json.loads(done.stdout or "{}")
    if done.returncode != 0:
        pytest.skip(f"{release} cannot be fetched: {module.get('Error') or done.stderr.strip()}")
    assert module["Sum"] == RELEASES[release]
    found: Schema = json.loads((Path(module["Dir"]) / "api/openapi-spec/swagger.json").read_text())["definitions"]
    return found


class Validator:
    """Objects against one release."""

    def __init__(self, release_definitions: Schema) -> None:
        self._definitions = release_definitions
        self._kinds = {
            (kind["group"], kind["version"], kind["kind"]): name
            for name, schema in release_definitions.items()
            for kind in schema.get("x-kubernetes-group-version-kind", [])
        }

    def has(self, kind: str) -> bool:
        """Whether the release has a v1 of this kind."""
        return any(version == "v1" and found == kind for _, version, found in self._kinds)

    def errors(self, obj: Schema) -> list[str]:
        """Everything that is wrong with an object."""
        group, _, version = obj["apiVersion"].rpartition("/")
        name = self._kinds.get((group, version, obj["kind"]))
        if name is None:
            return [f"{obj['apiVersion']} {obj['kind']} does not exist"]
        return list(self._check(obj, self._definitions[name], obj["kind"]))

    def _check(self, value: Any, schema: Schema, path: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = self._definitions[schema["$ref"].removeprefix("#/definitions/")]
        kind = schema.get("type")
        if schema.get("format") == "int-or-string":
            kind = "integer" if isinstance(value, int) else "string"
        if kind is None:
            return  # any JSON, as in a CRD's schema
        fits = isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        if not fits:
            yield f"{path}: {value!r} is no {kind}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{path}: {value!r} is none of {schema['enum']}"
        if kind == "array":
            for number, item in enumerate(value):
                yield from self._check(item, schema["items"], f"{path}[{number}]")
        elif kind == "object":
            yield from self._fields(value, schema, path)

    def _fields(self, value: Schema, schema: Schema, path: str) -> Iterator[str]:
        for name in schema.get("required", []):
            if name not in value:
                yield f"{path}: {name} is missing"
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            if name in known or others is not None:
                yield from self._check(item, known.get(name, others), f"{path}.{name}")
            elif known:
                yield f"{path}: there is no field {name}"
