"""Suite `plugin` as `def` workflows: what an instrumentation plugin is told, and when."""

from __future__ import annotations

import json
import sys

from perdure.config import Duration, JitterStrategy, StepConfig
from perdure.durable import durable_execution, durable_step
from perdure.plugin import DurableInstrumentationPlugin, OperationType
from perdure.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy

# ------------------------------------------------------------------------------------------------------------- plugins


class Made:
    """A factory that makes plugins of one class, all under one name."""

    def __init__(self, plugin, name="CONFPLUGIN"):
        self.plugin = plugin
        self.name = name

    def create_plugin(self, info):
        return self.plugin(self.name, info.execution_arn)


class Reporter(DurableInstrumentationPlugin):
    """Writes a line for what it is told."""

    def __init__(self, name, arn):
        self.name = name
        self.arn = arn

    def report(self, hook, **members):
        # A single write: another thread may print at the same time.
        line = {"plugin": self.name, "hook": hook, "durableExecutionArn": self.arn, **members}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


class Invocations(Reporter):
    """Reports invocations."""

    def on_invocation_start(self, info):
        self.report("invocation-start", first=info.is_first_invocation)

    def on_invocation_end(self, info):
        self.report("invocation-end", status=info.status.value)


class Operations(Reporter):
    """Reports steps."""

    def on_operation_start(self, info):
        if info.operation_type is OperationType.STEP:
            self.report("operation-start", op=info.operation_id)

    def on_operation_end(self, info):
        if info.operation_type is OperationType.STEP:
            self.report("operation-end", op=info.operation_id, status=info.status.value)


class Attempts(Reporter):
    """Reports the attempts at steps."""

    def on_user_function_start(self, info):
        if info.operation_type is OperationType.STEP:
            self.report("attempt-start", n=info.attempt, op=info.operation_id)

    def on_user_function_end(self, info):
        if info.operation_type is OperationType.STEP:
            self.report("attempt-end", n=info.attempt, outcome=info.outcome.value, op=info.operation_id)


class FaultyError(Exception):
    """A plugin is broken."""


class Faulty(Reporter):
    """Reports all of that, and fails each time."""

    def fail(self, hook, info=None):
        if info is None or info.operation_type is OperationType.STEP:
            self.report(hook)
            raise FaultyError(hook)

    def on_invocation_start(self, info):
        self.fail("invocation-start")

    def on_invocation_end(self, info):
        self.fail("invocation-end")

    def on_operation_start(self, info):
        self.fail("operation-start", info)

    def on_operation_end(self, info):
        self.fail("operation-end", info)

    def on_user_function_start(self, info):
        self.fail("attempt-start", info)

    def on_user_function_end(self, info):
        self.fail("attempt-end", info)


# ----------------------------------------------------------------------------------------------------------- workflows


@durable_step
def greet(context, name):
    context.logger.info("Greeting step running for: %s", name)
    return f"Hello, {name}!"


@durable_execution(plugins=[Made(Invocations)])
def invocation_hooks(name, context):
    """One step in one invocation."""
    return context.step(greet(name))


@durable_execution(plugins=[Made(Operations)])
def operation_hooks(name, context):
    """The step begins once and ends once."""
    return context.step(greet(name))


@durable_execution(plugins=[Made(Attempts)])
def attempt_hooks(_, context):
    """A step that succeeds at its second attempt."""

    def unreliable(step):
        if step.attempt < 2:
            raise RuntimeError("not this time")
        return "Operation succeeded"

    soon = RetryStrategyConfig(
        max_attempts=3, initial_delay=Duration.from_seconds(1), jitter_strategy=JitterStrategy.NONE
    )
    return context.step(unreliable, config=StepConfig(retry_strategy=create_retry_strategy(soon)))


@durable_execution(plugins=[Made(Faulty, "CONFPLUGIN-FAULTY")])
def faulty_plugin(name, context):
    """Nothing comes of a plugin's failures."""
    return context.step(greet(name))


@durable_execution(plugins=[Made(Invocations, "CONFPLUGIN-A"), Made(Invocations, "CONFPLUGIN-B")])
def two_plugins(name, context):
    """Both are told."""
    return context.step(greet(name))


@durable_execution(plugins=[Made(Invocations)])
def first_invocation(_, context):
    """Two invocations, of which one is the first."""
    context.wait(Duration.from_seconds(2))


@durable_execution(plugins=[Made(Invocations)])
def failure(_, context):
    """A step that fails for good."""

    def fail(_):
        raise RuntimeError("always")

    context.step(fail, config=StepConfig(retry_strategy=RetryPresets.none()))


REQUIREMENTS = {
    "10-1": invocation_hooks,
    "10-2": operation_hooks,
    "10-3": attempt_hooks,
    "10-4": faulty_plugin,
    "10-5": two_plugins,
    "10-6": first_invocation,
    "10-7": failure,
}
