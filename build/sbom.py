"""Writes the software bill of materials, CycloneDX 1.6, of the executable and of the image around it.

Read from what went in: the compiler's report, the sources of build/toolchain.sh, the packages of build/rootfs.sh.
Runs on the builder's Python 3.9: the one in /opt/python has only what the executable needs.
"""

import json
import subprocess
import sys
import uuid
import xml.etree.ElementTree as ElementTree
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]


def pypi(report: ElementTree.Element, folder: str) -> list[Component]:
    """The Python packages of which the executable has at least one module."""
    licences = {}
    for package in metadata.distributions(path=[folder]):
        found = package.metadata
        licences[found["Name"]] = found.get("License-Expression") or found.get("License") or ""
    components = []
    for package in report.iter("distribution"):
        name, version = package.attrib["name"], package.attrib["version"]
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        component = {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}
        if (licence := licences.get(name, "")) and "\n" not in licence:
            component["licenses"] = [{"license": {"name": licence}}]
        components.append(component)
    return components


def debian(name: str, version: str, arch: str, release: str) -> Component:
    purl = f"pkg:deb/debian/{name}@{quote(version)}?arch={arch}&distro=debian-{release}"
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def compiled(sources: Path) -> list[Component]:
    """The Debian source packages that were compiled into the executable."""
    return [debian(*line.split(), "source", "12") for line in sources.read_text().splitlines()]


def bundled(report: ElementTree.Element) -> list[Component]:
    """The builder's own libraries that lie beside the executable."""
    components = []
    for dll in report.iter("included_dll"):
        path = Path(dll.attrib["source_path"])
        if path.is_relative_to("/opt"):
            continue  # made from the sources
        owner = subprocess.run(["dpkg", "-S", f"*/{path.name}"], check=True, capture_output=True, text=True).stdout
        name = owner.split(":")[0]
        shown = ["dpkg-query", "-W", "-f", "${Version} ${Architecture}", name]
        version, arch = subprocess.run(shown, check=True, capture_output=True, text=True).stdout.split()
        components.append(debian(name, version, arch, "11"))
    return components


def image(status: Path) -> list[Component]:
    """The Debian packages around the executable in the image."""
    components = []
    for file in sorted(status.iterdir()):
        fields = dict(line.split(": ", 1) for line in file.read_text().splitlines() if ": " in line and line[0] != " ")
        components.append(debian(fields["Package"], fields["Version"], fields["Architecture"], "13"))
    return components


def main() -> None:
    report_file, packages, sources, status, version, timestamp = sys.argv[1:]
    report = ElementTree.parse(report_file).getroot()
    components = [
        *pypi(report, packages),
        *compiled(Path(sources)),
        *bundled(report),
        *image(Path(status)),
    ]
    application = {"type": "application", "name": "cvji", "version": version, "purl": f"pkg:generic/cvji@{version}"}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": timestamp, "component": application},
        "components": components,
    }
    # The same content has the same serial number.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    json.dump({"serialNumber": f"urn:uuid:{serial}", **document}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
