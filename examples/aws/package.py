"""
Make a zip for AWS Lambda: `python examples/aws/package.py`.

Packs the order workflow, or other modules that are named, and what they need of what this Python has installed: so
install Perdure first, from the checkout or from a wheel, and whatever else the workflow imports (`--with` packs that).
Perdure, attrs and cattrs are pure Python, so any machine can pack for any runtime. boto3 is in Lambda's own runtime.

The same files give the same zip, byte for byte: no times, no owners, sorted names.
"""

from __future__ import annotations

import argparse
import ast
import re
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import perdure  # type: ignore[import-not-found, unused-ignore]  # a namespace without an __init__.py

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
# What Perdure depends on. Which versions: those that are installed.
DEPENDENCIES = ("attrs", "cattrs", "typing_extensions")
# A durable function finds its adapter by an entry point: nothing imports it.
ALWAYS = ("perdure.durable", "perdure.adapters.lambda_handler")
METADATA = {"METADATA", "entry_points.txt"}
EPOCH = (1980, 1, 1, 0, 0, 0)


def of_perdure(modules: list[Path]) -> Iterator[tuple[str, Path]]:
    """What these modules and the adapter can come to import of Perdure, and what makes it findable."""
    names = [*ALWAYS, *chain.from_iterable(map(imported, modules))]
    seen = set()
    while names:
        name = names.pop()
        if name not in seen and (found := source(name)) is not None:
            yield found
            names += imported(found[1])
        seen.add(name)
    yield from metadata("perdure")


def source(name: str) -> tuple[str, Path] | None:
    """Where a module is, in the zip and here: Perdure comes from a wheel, or from three source roots."""
    for path in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
        for root in perdure.__path__:
            if (file := Path(root).parent / path).is_file():
                return path, file
    return None


def imported(file: Path) -> Iterator[str]:
    """The modules of Perdure that a file names, other than for type checkers, and the packages around them."""
    nodes: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes += ast.iter_child_nodes(node)
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                for name in (module, *(f"{module}.{alias.name}" for alias in names)):
                    yield from packages(name)
            # By `import`, and by its name as a text.
            case ast.alias(name=name) | ast.Constant(value=str(name)):
                yield from packages(name)


def packages(name: str) -> Iterator[str]:
    """A module of Perdure and the packages around it."""
    if re.fullmatch(r"perdure(\.\w+)+", name):
        parts = name.split(".")
        yield from (".".join(parts[:end]) for end in range(2, len(parts) + 1))


def of_distribution(name: str) -> Iterator[tuple[str, Path]]:
    """The files of an installed distribution."""
    for file in distribution(name).files or ():
        if is_needed(file) and not file.parts[0].endswith(".dist-info") and ".." not in file.parts:
            yield file.as_posix(), Path(str(file.locate()))
    yield from metadata(name)


def is_needed(path: PurePosixPath) -> bool:
    """Whether a file is neither compiled nor for type checkers."""
    return path.suffix not in {".pyc", ".pyi"} and path.name != "py.typed"


def metadata(name: str) -> Iterator[tuple[str, Path]]:
    """What tells the version of a distribution, its entry points and its licence."""
    for file in distribution(name).files or ():
        if file.parts[0].endswith(".dist-info") and (file.name in METADATA or "LICENSE" in file.name.upper()):
            yield file.as_posix(), Path(str(file.locate()))


def package(modules: list[Path], extra: list[str], target: Path) -> None:
    """Write the zip."""
    files = dict(chain(of_perdure(modules), *(of_distribution(name) for name in (*DEPENDENCIES, *extra))))
    files.update((module.name, module) for module in modules)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, file in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16  # readable for Lambda's user
            archive.writestr(entry, file.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a zip for AWS Lambda of a workflow and what it needs.")
    parser.add_argument("modules", nargs="*", type=Path, default=[HERE / "app.py"], help="default: the order workflow")
    parser.add_argument("--with", dest="extra", action="append", default=[], metavar="DISTRIBUTION")
    parser.add_argument("--out", type=Path, default=HERE / "build" / "order.zip")
    arguments = parser.parse_args()
    try:
        package(arguments.modules, arguments.extra, arguments.out)
    except PackageNotFoundError as error:
        parser.error(f"{error.name!r} is not installed here; pip install {error.name}")
    with zipfile.ZipFile(arguments.out) as archive:
        files = archive.infolist()
    unpacked = sum(file.file_size for file in files)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes, {unpacked:,} unpacked, {len(files)} files")


if __name__ == "__main__":
    main()
