"""Compiles the hot modules of the serving plane into a wheel, by mypyc. Only where it is asked for:

    HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 pip wheel --no-deps .      (see scripts/wheel)

The sources stay in the wheel beside what was compiled of them, and are all there is of an editable installation, of an sdist and
of a wheel that was built without that variable: those need no compiler. Nothing is ever written beside the sources.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Types are read of our own modules and of stubs, not of the sources of libraries: those would take minutes, and what is compiled
# would depend on which are installed.
_TYPES = """
[mypy]
follow_imports = skip
ignore_missing_imports = True
[mypy-leptonai.*]
follow_imports = silent
"""


class CompiledPlane(BuildHookInterface):  # type: ignore[type-arg]
    """The hook ``custom`` of pyproject.toml: ``modules`` are compiled, ``types`` are the libraries whose types they use."""

    folder: Path | None = None

    def dependencies(self) -> list[str]:
        """Return what is needed to build, in the versions that are tested."""
        lines = Path(self.root, "constraints.txt").read_text().splitlines()
        return ["setuptools", *(line for line in lines if line.partition("==")[0] in self.config["types"])]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where in the wheel each file belongs."""
        if self.target_name != "wheel" or version == "editable":
            return
        self.folder = Path(tempfile.mkdtemp(prefix="leptonai-mypyc-"))
        built = _compiled(Path(self.root), self.config["modules"], self.folder)
        build_data["force_include"] |= {str(path): str(path.relative_to(built)) for path in built.rglob("*.so")}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Leave nothing behind."""
        if self.folder is not None:
            shutil.rmtree(self.folder)


def _compiled(root: Path, modules: list[str], folder: Path) -> Path:
    """Compile modules as one group: their classes inherit from one another, and a call among them is one of C."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    os.chdir(root)
    os.environ["MYPYPATH"] = "src"
    settings = folder / "mypy.ini"
    settings.write_text(_TYPES)
    paths = [f"src/{name.replace('.', '/')}.py" for name in modules]
    if missing := [path for path in paths if not Path(path).is_file()]:
        sys.exit(f"pyproject.toml names modules that are not there: {', '.join(missing)}")
    given = [f"--config-file={settings}", "--cache-dir=/dev/null", *paths]
    extensions = mypycify(given, opt_level="3", debug_level="0", group_name="leptonai", target_dir=str(folder))
    command = Distribution({"name": "leptonai", "ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
    command.ensure_finalized()
    command.run()
    return folder / "lib"
