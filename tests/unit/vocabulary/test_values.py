"""Inputs and results as JSON, with classes of fields where the workflow's annotations have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import attrs
import pytest

from perdure.errors import SerDesError
from perdure.values import dump, load


@attrs.frozen
class Item:
    sku: str
    count: int = 1


@attrs.frozen
class Order:
    customer: str
    items: list[Item]


@dataclass
class Parcel:
    weight: int
    orders: dict[str, Order] = field(default_factory=dict)


VALUES = [
    pytest.param(Order("ann", [Item("a", 2), Item("b")]), Order, id="attrs"),
    pytest.param(Parcel(3, {"x": Order("ann", [])}), Parcel, id="dataclass"),
    pytest.param([Item("a"), Item("b")], list[Item], id="list"),
    pytest.param({"a": Item("a")}, dict[str, Item], id="dict"),
    pytest.param(Item("a"), Item | None, id="optional"),
    pytest.param(None, Item | None, id="optional, none"),
    pytest.param([{"sku": "a"}], list[dict[str, Any]], id="plain"),
]


@pytest.mark.parametrize(("value", "annotation"), VALUES)
def test_there_and_back(value, annotation):
    """What is written is read as the annotation says."""
    assert load(dump(value, "it"), annotation, "it") == value


@pytest.mark.parametrize("text", [None, "", "  "])
def test_nothing(text):
    """No text is None, whatever the annotation."""
    assert load(text, Order, "it") is None


MISFITS = [
    ('{"customer": "ann"}', Order, "does not fit Order: required field missing @ value.items"),
    (
        '{"customer": "ann", "items": [{"sku": "a"}, {"sku": "b", "count": "many"}]}',
        Order,
        "does not fit Order: invalid value for type, expected int @ value.items[1].count",
    ),
    (
        '{"weight": "a ton", "orders": {"x": {"items": []}}}',
        Parcel,
        "expected int @ value.weight; required field missing @ value.orders['x'].customer",
    ),
    ("5", Item, "does not fit Item: value is int, where an object with the fields sku, count was expected"),
    ("[]", Parcel, "does not fit Parcel: value is list, where an object with the fields weight, orders was expected"),
    ("[{}]", list[Item], "required field missing @ value[0].sku"),
    ('{"customer": "ann"}', Order, "@ value.items; give what fits, or new fields a default"),
    ("{", Item, "cannot be read: Expecting property name"),
    ("{", None, "line 1 column 2 (char 1); write it as JSON"),
]


@pytest.mark.parametrize(("text", "annotation", "told"), MISFITS)
def test_what_does_not_fit(text, annotation, told):
    """The error names every field that is to blame."""
    with pytest.raises(SerDesError) as caught:
        load(text, annotation, "the input")
    assert str(caught.value).startswith("the input ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Order("ann", [object()]), "value['items'][0] is an object; use plain values, attrs classes or dataclasses"),
        (Parcel(1, {"x": object()}), "value['orders']['x'] is an object"),
        ([Item({1})], "value[0]['sku'] is a set"),
        (Order("ann", [Parcel(1)]), "'Parcel' object has no attribute 'sku'"),
    ],
)
def test_what_cannot_be_written(value, told):
    """The error names the field whose value JSON has no form for."""
    with pytest.raises(SerDesError) as caught:
        dump(value, "the result")
    assert str(caught.value).startswith("the result cannot be written as JSON: ")
    assert told in str(caught.value)
