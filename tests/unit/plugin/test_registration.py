"""What `plugins=` takes, what the environment adds, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import subprocess
import sys
from enum import Enum
from types import SimpleNamespace

import attrs
import pytest

from perdure import plugin
from perdure.durable import durable_execution
from perdure.errors import PluginLoadError
from perdure.plugin import DurableInstrumentationPlugin, UserFunctionEndInfo
from tests.replay.plane import Plane, invoke


class Quiet(DurableInstrumentationPlugin):
    def __init__(self, names):
        self.names = names

    def on_invocation_start(self, info):
        self.names.append("started")


class Factory:
    """Makes plugins that note when they begin."""

    def __init__(self):
        self.names = []

    def create_plugin(self, info):
        return Quiet(self.names)


def workflow(event, context):
    return 1


# ---------------------------------------------------------------------------------------------------------- factories


class OfItself:
    @classmethod
    def create_plugin(cls, info):
        return Quiet([])


@pytest.mark.parametrize("factory", [Factory(), OfItself, SimpleNamespace(create_plugin=lambda info: Quiet([]))])
def test_factories(factory):
    """Anything with a create_plugin that takes the invocation's info."""
    assert durable_execution(workflow, plugins=[factory]).plugins == (factory,)


@pytest.mark.parametrize(
    "wrong",
    [Quiet([]), Quiet, Factory, lambda info: Quiet([]), None, SimpleNamespace(create_plugin=lambda: 1)],
    ids=["a plugin", "a plugin class", "a factory class", "a function", "nothing", "no argument"],
)
def test_what_is_no_factory(wrong):
    """It is refused when the function is decorated, with a remedy."""
    with pytest.raises(PluginLoadError, match=r"plugins\[1\] is .*give an object whose create_plugin returns"):
        durable_execution(workflow, plugins=[Factory(), wrong])


def fails(_):
    raise RuntimeError("broken")


@pytest.mark.parametrize("made", [fails, lambda _: None, lambda _: "no plugin", lambda _: Factory()])
def test_a_factory_that_makes_no_plugin(made, caplog):
    """That is logged; the execution and the other plugins go on."""
    after = Factory()
    function = durable_execution(workflow, plugins=[SimpleNamespace(create_plugin=made), after])
    assert invoke(function, Plane()).result == "1"
    assert after.names == ["started"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_one_plugin_an_invocation():
    """A factory outlives invocations, a plugin serves one."""
    factory, plane = Factory(), Plane()
    function = durable_execution(lambda _, context: context.create_callback("cb").result(), plugins=[factory])
    invoke(function, plane)
    plane.complete("cb", "1")
    invoke(function, plane)
    assert factory.names == ["started", "started"]


# -------------------------------------------------------------------------------------------------------- environment


@pytest.fixture
def entry_points(monkeypatch):
    """Installed entry points: names and what they load."""
    points = []

    class EntryPoint:
        def __init__(self, name, loaded):
            self.name = name
            self.value = f"package:{name}"
            self.loaded = loaded

        def load(self):
            if isinstance(self.loaded, Exception):
                raise self.loaded
            return self.loaded

    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda group: [EntryPoint(*each) for each in points if group == "perdure.plugins"],
    )
    return points


def test_from_the_environment(entry_points, monkeypatch):
    """Named factories come after the given ones, each once."""
    first, second = Factory(), Factory()
    second.names = first.names
    entry_points += [("one", first), ("two", second)]
    monkeypatch.setenv("DURABLE_EXECUTION_PLUGINS", " one, two ")
    for given in ([], [first]):
        first.names.clear()
        invoke(durable_execution(workflow, plugins=given), Plane())
        assert first.names == ["started", "started"]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "0 entry points among"),
        ([("one", Factory()), ("one", Factory())], "2 entry points among"),
        ([("one", ImportError("gone"))], "could not be imported from 'package:one'"),
        ([("one", Quiet)], "entry point 'one' of group 'perdure.plugins' is the class Quiet"),
    ],
)
def test_the_environment_is_wrong(entry_points, monkeypatch, points, message):
    """What it names must be there, once, and be a factory."""
    entry_points += points
    monkeypatch.setenv("DURABLE_EXECUTION_PLUGINS", "one")
    with pytest.raises(PluginLoadError, match=message):
        durable_execution(workflow)


def test_not_loaded_without_plugins():
    """A cold start does not pay for what few functions have."""
    script = """
import sys
from perdure.durable import durable_execution
durable_execution(lambda event, context: 1)
heavy = "perdure.plugin", "perdure.engine.observation", "perdure.engine.observer"
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -------------------------------------------------------------------------------------------------------- AWS's names

aws = pytest.importorskip("aws_durable_execution_sdk_python.plugin")


@pytest.mark.parametrize("name", plugin.__all__)
def test_names_of_aws(name):
    """Classes have the same fields in the same order, with the same defaults; enums the same values."""
    theirs, ours = getattr(aws, name), getattr(plugin, name)
    if issubclass(theirs, Enum):
        assert {each.name: each.value for each in ours} == {each.name: each.value for each in theirs}
    elif dataclasses.is_dataclass(theirs):
        assert [fields(each) for each in attrs.fields(ours)] == [
            fields_of_aws(each) for each in dataclasses.fields(theirs)
        ]
    else:
        methods = [each for each in vars(theirs) if not each.startswith("_")]
        for method in methods:
            expected = inspect.signature(getattr(theirs, method)).parameters
            assert list(inspect.signature(getattr(ours, method)).parameters) == list(expected)


def fields(field):
    default = field.default
    if isinstance(default, attrs.Factory):
        default = default.factory
    return field.name, None if default is attrs.NOTHING else (default,), field.kw_only, bool(field.repr), bool(field.eq)


def fields_of_aws(field):
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory
    return field.name, None if default is dataclasses.MISSING else (default,), field.kw_only, field.repr, field.compare


def test_all_names_of_aws():
    """Nothing public is missing but what runs plugins inside AWS's SDK."""
    public = {name for name, each in vars(aws).items() if inspect.isclass(each) and each.__module__ == aws.__name__}
    internal = {name for name in public if name.startswith("_")} | {"PluginExecutor", "PluginHost"}
    assert public - internal <= set(plugin.__all__)


def test_the_end_of_a_function():
    """Made of its beginning; without an error it has succeeded."""
    start = plugin.UserFunctionStartInfo("1", plugin.OperationType.STEP, "Step", "a", None, None, False, "STARTED")
    end = UserFunctionEndInfo.from_start_info(start, None)
    assert (end.operation_id, end.outcome.value, end.is_replay_children) == ("1", "SUCCEEDED", False)
    failed = UserFunctionEndInfo.from_start_info(start, plugin.ErrorObject("no"))
    assert (failed.error.message, failed.outcome.value) == ("no", "FAILED")
