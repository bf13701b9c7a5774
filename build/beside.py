"""A plugin of the compiler, for a small process: of what is in an executable, the start touches and so maps nearly all.

Modules that stay bytecode go into modules.zip beside the executable: read from there they are not mapped, and their own
code is freed once it has run, which the compiler's loader does not do. What is compiled is compiled for size.
"""

import importlib.util
import io
import os
import zipfile
from collections.abc import Iterable
from typing import Any

from nuitka import ModuleRegistry
from nuitka.freezer.IncludedDataFiles import addIncludedDataFile
from nuitka.plugins.PluginBase import NuitkaPluginBase

UNCHECKED = (1).to_bytes(4, "little") + bytes(8)  # the rest of a pyc's header: there is no source to compare it with


class Beside(NuitkaPluginBase):
    plugin_name = "beside"

    def onModuleCompleteSet(self, module_set: Any) -> None:  # noqa: ARG002, N802
        # Those that Python needs before it can read a zip stay, whole packages; certifi finds its file that way.
        inside = {name_of(module).split(".")[0] for module in ModuleRegistry.getUncompiledTechnicalModules()}
        inside.add("certifi")
        uncompiled = ModuleRegistry.getUncompiledModules()
        self.modules = [module for module in uncompiled if name_of(module).split(".")[0] not in inside]
        ModuleRegistry.done_modules.difference_update(self.modules)
        found = self.makeIncludedGeneratedDataFile(zipped(self.modules), "modules.zip", "modules that stay bytecode")
        addIncludedDataFile(found)
        os.environ["CFLAGS"] = "-Os"

    def onStandaloneDistributionFinished(self, dist_dir: str) -> None:  # noqa: ARG002, N802
        ModuleRegistry.done_modules.update(self.modules)  # for the compiler's report
        del os.environ["CFLAGS"]  # what unpacks the one file is to be fast


def zipped(modules: Iterable[Any]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for module in modules:
            file = name_of(module).replace(".", "/")
            file += "/__init__.pyc" if module.isUncompiledPythonPackage() else ".pyc"
            archive.writestr(zipfile.ZipInfo(file), importlib.util.MAGIC_NUMBER + UNCHECKED + module.getByteCode())
    return data.getvalue()


def name_of(module: Any) -> str:
    return str(module.getFullName())
