"""Plugin files: what they import from their own folder, their version, and their import."""

import ast
import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from bench.errors import PluginError

_SUITE = "bench"


def plugin_files(path: Path) -> dict[str, bytes]:
    """Read a plugin file and the files of its folder that it imports, directly or not.

    A package in the folder counts as a whole. Names are found in the source, so imports by a
    computed name are missed.

    Returns:
        Contents by path relative to the folder; the plugin file comes first.

    Raises:
        OSError: if one of them cannot be read.
    """
    files = {path.name: path.read_bytes()}
    waiting = [files[path.name]]
    while waiting:
        for name in sorted(_imported(waiting.pop()) - {_SUITE}):
            module, package = path.parent / f"{name}.py", path.parent / name
            found = [module] if module.is_file() else []
            if (package / "__init__.py").is_file():
                found = sorted(package.rglob("*.py"))
            for file in found:
                relative = file.relative_to(path.parent).as_posix()
                if relative not in files:
                    files[relative] = file.read_bytes()
                    waiting.append(files[relative])
    return files


def plugin_version(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of a plugin file's bytes, or of its own and those of its imports."""
    contents = [*files.values()]
    if len(contents) == 1:
        return hashlib.sha256(contents[0]).hexdigest()
    parts = (f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\0" for name in sorted(files))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def import_plugin(path: Path, files: Mapping[str, bytes]) -> ModuleType:
    """Import a plugin file under a name of its own; the same files are imported once.

    If it imports files of its folder, the folder comes last on `sys.path`.

    Raises:
        PluginError: if it is not a Python file, or another module hides a file of its folder.
        BaseException: whatever its code raises.
    """
    version = plugin_version(files)
    unique = hashlib.sha256(os.fsencode(path) + version.encode()).hexdigest()[:12]
    name = "nlbench_plugin_" + re.sub(r"\W", "_", path.stem) + "_" + unique
    if name in sys.modules:
        return sys.modules[name]
    _open_folder(path.parent, {Path(file).parts[0].removesuffix(".py") for file in [*files][1:]})
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _imported(source: bytes) -> set[str]:
    """Return the first parts of the names that a source imports; none if it is not Python."""
    names: set[str] = set()
    with suppress(SyntaxError, ValueError, RecursionError):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def _open_folder(folder: Path, names: set[str]) -> None:
    """Let modules of a folder be imported by these names, anew.

    Raises:
        PluginError: if a name stands for another module.
    """
    if not names:
        return
    for loaded, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if loaded.partition(".")[0] in names and file and _is_in(file, folder):
            del sys.modules[loaded]  # its file may have changed
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    for name in sorted(names):
        spec = importlib.util.find_spec(name)
        origin = "" if spec is None else spec.origin or ""
        if not _is_in(origin, folder):
            raise PluginError(
                f"{name} in its folder is hidden by another module of this name, "
                f"{origin or 'of Python'}; rename it"
            )


def _is_in(file: str, folder: Path) -> bool:
    """Return whether a file is in a folder, whatever links lead there."""
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))
