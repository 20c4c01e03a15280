"""
The table of `docs/aws-compatibility.md`, held against AWS's SDK as it is installed.

Every public name of AWS's stands in the table. What the table calls the same is the same: parameters with their order,
kinds and defaults, members of enums with their values, fields, bases of exceptions. What differs is named there, and
what is named there does differ.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from dataclasses import MISSING
from enum import Enum
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar

import attrs
import aws_durable_execution_sdk_python as aws
import pytest

from perdure import durable
from perdure.durable import AsyncDurableContext, DurableContext
from perdure.engine.context import ContextBase

DOCUMENT = (Path(__file__).parents[2] / "docs" / "aws-compatibility.md").read_text(encoding="utf-8")
ROOT = aws.__name__
NOTHING = "—"
SAME = "same"


# -------------------------------------------------------------------------------------------------------- the document


def rows(title):
    """The cells of the table below a heading, without the table's head."""
    section = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert section, f"the document has no section {title!r}"
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(cell):
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


MODULES = {quoted(theirs)[0]: (quoted(ours) or [None])[0] for theirs, ours, _ in rows("Modules")}
"""AWS's modules by their names below the root, each with ours, or None where the whole module is an inside."""
ENTRIES = [
    (module, name, ours, note)
    for module, counterpart in MODULES.items()
    if counterpart
    for names, ours, note in rows(f"`{module}`")
    for name in quoted(names)
]
TABLE = {(module, name): (ours, note) for module, name, ours, note in ENTRIES}


def their_module(module):
    """One of AWS's modules."""
    return import_module(ROOT if module == ROOT else f"{ROOT}.{module}")


def counterpart(module, name, ours):
    """Our object for one of AWS's; None if there is none."""
    if ours == NOTHING:
        return None
    path = f"{MODULES[module]}.{name}" if ours == SAME else quoted(ours)[0]
    place, _, attribute = path.rpartition(".")
    return getattr(import_module(place), attribute)


# ------------------------------------------------------------------------------------------------------ AWS's SDK


def public_names(module):
    """What a module of AWS's defines and does not hide."""
    found = their_module(module)
    if hasattr(found, "__all__"):
        return list(found.__all__)
    return [name for name, value in vars(found).items() if not name.startswith("_") and is_own(found, name, value)]


def is_own(module, name, value):
    """Whether a module defines a name, rather than importing it."""
    if isinstance(value, (ModuleType, TypeVar, ParamSpec)) or name == "TYPE_CHECKING":
        return False
    if hasattr(value, "__module__") and not isinstance(value, Enum) and not hasattr(type(value), "serialize"):
        return value.__module__ == module.__name__
    # A constant does not tell where it is from; its module's source does.
    return re.search(rf"^{name}\b[^=\n]*=", inspect.getsource(module), re.MULTILINE) is not None


def all_modules():
    """The modules of AWS's SDK below its root that define something."""
    names = [found.name.removeprefix(f"{ROOT}.") for found in pkgutil.walk_packages(aws.__path__, f"{ROOT}.")]
    return [name for name in names if public_names(name)]


# ---------------------------------------------------------------------------------------------------- differences


def plain(value):
    """A value without the identity of its classes."""
    if isinstance(value, Enum):
        return type(value).__name__, value.name
    if isinstance(value, (str, int, float, bytes, type(None), type(inspect.Parameter.empty))):
        return value
    if names := field_names(type(value)):
        return type(value).__name__, {name: plain(getattr(value, name)) for name in names}
    return type(value).__name__


def field_names(kind):
    """The fields of an attrs class or a dataclass, in positional order."""
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    return list(getattr(kind, "__dataclass_fields__", ()))


def parameters(call):
    """The parameters of a call by their names, without `self`."""
    found = inspect.signature(call).parameters
    return {name: parameter for name, parameter in found.items() if name not in {"self", "cls"}}


def default(call, parameter):
    """What a parameter is when it is left out, with factories called."""
    if attrs.has(call):
        factory = getattr(attrs.fields_dict(call).get(parameter.name.lstrip("_")), "default", None)
        return factory.factory() if isinstance(factory, attrs.Factory) else parameter.default
    field = getattr(call, "__dataclass_fields__", {}).get(parameter.name)
    made = getattr(field, "default_factory", MISSING)
    return parameter.default if made is MISSING else made()


def differing_parameters(theirs, ours):
    """Names of parameters that one of our callables lacks, has elsewhere, or has in addition and requires."""
    if is_plain_exception(ours):
        return
    expected, found = parameters(theirs), parameters(ours)
    for position, (name, parameter) in enumerate(expected.items()):
        own = found.get(name)
        if own is None:
            if name not in typed_options(ours):
                yield name
        elif (
            own.kind is not parameter.kind
            or (own.kind is own.POSITIONAL_OR_KEYWORD and list(found).index(name) != position)
            or (parameter.default is not parameter.empty and differ(default(theirs, parameter), default(ours, own)))
        ):
            yield name
    for name, parameter in found.items():
        if (
            name not in expected
            and parameter.default is parameter.empty
            and parameter.kind is not parameter.VAR_KEYWORD
        ):
            yield name


def is_plain_exception(kind):
    """Whether a class is an exception that takes whatever the built-in one does."""
    return inspect.isclass(kind) and issubclass(kind, BaseException) and not inspect.isfunction(kind.__init__)


def differ(one, other):
    """Whether two defaults are not the same."""
    return plain(one) != plain(other)


def typed_options(call):
    """The options of a call that takes them as one typed `**options`."""
    return set(durable._Options.__annotations__) if call is durable.durable_execution else set()


def members(kind):
    """The public members of a class: methods, properties, fields, annotations, what its constructor assigns."""
    names = set(field_names(kind))
    for base in kind.__mro__[:-1]:
        names.update(vars(base), vars(base).get("__annotations__", ()), assigned(base))
    inherited = set(dir(Exception)) | set(dir(Enum)) | set(dir(str))
    return {name for name in names if not name.startswith("_")} - inherited


def assigned(kind):
    """The attributes that a class's own constructor assigns, as its source has them."""
    constructor = vars(kind).get("__init__")
    if not inspect.isfunction(constructor) or field_names(kind) or "<string>" in constructor.__code__.co_filename:
        return []
    return re.findall(r"^ +self\.(\w+)(?::[^=\n]+)? = ", inspect.getsource(constructor), re.MULTILINE)


def differing_members(theirs, ours):
    """Names of members that our class lacks or that are called otherwise."""
    for name in sorted(members(theirs)):
        method = getattr(theirs, name, None)
        if name not in members(ours) or (
            inspect.isroutine(method) and any(differing_parameters(method, getattr(ours, name)))
        ):
            yield name


def base_names(kind):
    """The names of a class and its bases."""
    return {base.__name__ for base in kind.__mro__}


def differences(theirs, ours):
    """What is not the same about one of our objects, as the words that the table has to name."""
    if inspect.isclass(theirs) and issubclass(theirs, Enum):
        names = {*theirs.__members__, *ours.__members__}
        for name in sorted(names):
            if name not in ours.__members__ or name not in theirs.__members__ or ours[name].value != theirs[name].value:
                yield name
        yield from differing_members(theirs, ours)
    elif inspect.isclass(theirs):
        yield from differing_members(theirs, ours)
        if issubclass(theirs, BaseException):
            yield from sorted(base_names(theirs) - base_names(ours))
        if not getattr(theirs, "_is_protocol", False):
            yield from {"constructor" for _ in differing_parameters(theirs, ours)}
    elif inspect.isfunction(theirs):
        yield from differing_parameters(theirs, ours)
    elif plain(theirs) != plain(ours):
        yield "value"


# ----------------------------------------------------------------------------------------------------------- the tests


def test_every_module_is_in_the_table():
    """AWS's modules are all there, and no others."""
    assert set(MODULES) == {ROOT, *all_modules()}


@pytest.mark.parametrize("module", [module for module, ours in MODULES.items() if ours])
def test_every_public_name_is_in_the_table_once(module):
    """What a module of AWS's defines has its row, and no row is about what it does not define."""
    described = [name for place, name, _, _ in ENTRIES if place == module]
    assert sorted(described) == sorted(public_names(module))


@pytest.mark.parametrize(("module", "name"), TABLE)
def test_a_name_is_as_the_table_says(module, name):
    """The same where the table says nothing, and where it says something, exactly that differs."""
    ours, note = TABLE[module, name]
    own = counterpart(module, name, ours)
    if own is None:
        assert note, "what is left out has a reason"
        assert not hasattr(import_module(MODULES[module]), name)
        return
    found = set(differences(getattr(their_module(module), name), own))
    unnamed = {word for word in found if not any(fnmatchcase(word, pattern) for pattern in quoted(note))}
    assert not unnamed, "the table does not tell of these"


NOTES = sorted({(module, ours, note) for module, _, ours, note in ENTRIES if note and ours != NOTHING})


@pytest.mark.parametrize(("module", "ours", "note"), NOTES)
def test_what_the_table_tells_differs(module, ours, note):
    """A note that names what is the same by now is out of date."""
    found = {
        word
        for place, name, *rest in ENTRIES
        if [place, *rest] == [module, ours, note]
        for word in differences(getattr(their_module(module), name), counterpart(module, name, ours))
    }
    named = [pattern for pattern in quoted(note) if not set(pattern) & set(".=")]
    assert [pattern for pattern in named if not any(fnmatchcase(word, pattern) for word in found)] == []
    assert found or ours != SAME


def test_what_the_table_points_at_is_there():
    """Whatever of Perdure the page names can be imported."""
    for path in {word for word in quoted(DOCUMENT) if re.fullmatch(r"perdure(\.\w+)+", word)}:
        place, _, attribute = path.rpartition(".")
        assert find_spec(path) if attribute.islower() else hasattr(import_module(place), attribute), path


def test_every_root_name_is_importable_from_one_module():
    """`from aws_durable_execution_sdk_python import …` needs only another module's name."""
    assert [name for name in aws.__all__ if not hasattr(durable, name)] == []


OPERATIONS = sorted(name for name in vars(DurableContext) if not name.startswith("_") and name != "promise")


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_contexts_have_the_same_operations(name):
    """An operation of `def` workflows is called the same, with the same arguments, in `async def` workflows."""
    blocking, awaitable = getattr(DurableContext, name), getattr(AsyncDurableContext, name)
    shapes = [
        [(parameter.name, parameter.kind, parameter.default) for parameter in parameters(call).values()]
        for call in (blocking, awaitable)
    ]
    assert shapes[0] == shapes[1]


def test_both_contexts_tell_the_same():
    """What is no operation stands in one base class of both contexts."""
    assert issubclass(DurableContext, ContextBase)
    assert issubclass(AsyncDurableContext, ContextBase)
    assert {name for name in vars(AsyncDurableContext) if not name.startswith("_")} == {*OPERATIONS, "promise"}
