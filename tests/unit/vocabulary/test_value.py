"""Values are compared, hashed and shown by their fields."""

from __future__ import annotations

import importlib
import pkgutil

import attrs
import pytest

import perdure.engine
from perdure.value import Value


@attrs.frozen(eq=False, repr=False)
class Point(Value):
    x: int
    y: int = 0
    note: str = attrs.field(default="", eq=False, repr=False)


@attrs.frozen(eq=False, repr=False)
class Place(Point):
    name: str = ""


@attrs.frozen(eq=False, repr=False)
class Origin(Value):
    pass


def test_equal_fields_make_equal_values():
    """Their hashes are equal then, too."""
    assert Point(1, 2) == Point(1, 2)
    assert hash(Point(1, 2)) == hash(Point(1, 2))
    assert len({Point(1, 2), Point(1, 2), Point(2, 1)}) == 2


@pytest.mark.parametrize("other", [Point(1, 3), Point(2, 2), Place(1, 2), (1, 2), None])
def test_nothing_else_is_equal(other):
    """Not even a value of a subclass with the same fields, nor a tuple."""
    assert Point(1, 2) != other
    assert other != Point(1, 2)


def test_fields_of_a_base_class_are_compared():
    """And those of the class itself."""
    assert Place(1, 2, name="here") == Place(1, 2, name="here")
    assert Place(1, 2, name="here") != Place(1, 3, name="here")
    assert Place(1, 2, name="here") != Place(1, 2, name="there")


def test_fields_that_are_not_to_be_compared_are_not():
    """Nor hashed, nor shown."""
    noted = Point(1, 2, note="corner")
    assert noted == Point(1, 2)
    assert hash(noted) == hash(Point(1, 2))
    assert repr(noted) == "Point(x=1, y=2)"


def test_values_without_fields_are_equal():
    """One is as good as another."""
    assert Origin() == Origin()
    assert Origin() != Point(0, 0)
    assert hash(Origin()) == hash(Origin())


def test_values_with_fields_that_have_no_hash_have_none():
    """As a tuple of them."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point([1]))


def test_no_value_has_methods_of_its_own_compiled():
    """A cold start pays for each: `eq=False, repr=False` leaves them to the base class."""
    for module in pkgutil.walk_packages(perdure.engine.__path__, "perdure.engine."):
        importlib.import_module(module.name)
    importlib.import_module("perdure.durable")
    own = {
        f"{kind.__module__}.{kind.__qualname__} {method}"
        for kind in _below(Value)
        for method in ("__eq__", "__hash__", "__repr__")
        if getattr(kind, method) is not getattr(Value, method)
    }
    assert not own


def _below(kind):
    for each in type.__subclasses__(kind):
        yield each
        yield from _below(each)
