"""
Bad input, and word for word what a user is told: what is wrong, in which operation, and what to do about it.

Some is tested where it belongs, too: payloads in both colours on every store in `tests/scenarios/test_payload.py`,
strands in `tests/replay/test_async_misuse.py`, the loop in `tests/replay/test_async_loop.py`, changed code in
`tests/replay/test_nondeterminism.py`, URLs and files beside each store in `tests/unit`, commands in
`tests/e2e/test_cli.py`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perdure.adapters.worker import Worker
from perdure.config import CallbackConfig, ChildConfig, CompletionConfig, MapConfig, ParallelBranch, StepConfig
from perdure.durable import Duration, durable_execution, with_retry
from perdure.retries import LinearRetryStrategyConfig, RetryDecision, WithRetryConfig
from perdure.serdes import JsonSerDes
from perdure.waits import WaitForConditionConfig
from tests.unit.bad_input.provocation import (
    LARGEST,
    LIMIT,
    Told,
    another_application,
    asking,
    awaiting,
    blocking_wait,
    changed_code,
    circle,
    command,
    completing,
    coroutine_branch,
    division,
    ended_execution,
    failing,
    file,
    foreign_task,
    foreign_thread,
    large_answer,
    large_summary,
    newer,
    no_await,
    no_room,
    no_writing,
    polling,
    raised,
    read_only,
    spinning,
    taken_name,
    takes_an_order,
    too_many_needed,
    unregistered,
    unwilling,
    url,
    using,
    waiting_too_shortly,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GUIDE = Path(__file__).parents[3] / "docs" / "errors.md"
NESTED = "use run_in_child_context, parallel or map for nested work"
OFFLOAD = "store it elsewhere and return a reference to it, or pass a serdes that compresses or offloads it"
INSIDE = (
    f"step 'outer': a durable context was used inside a step, submitter or check; call it outside of them; {NESTED}"
)
DECIDE = "use RetryDecision.retry(delay) or RetryDecision.no_retry()"
COMPLETE_IF = MapConfig(completion_config=CompletionConfig(should_complete=lambda _: True))  # type: ignore[arg-type,return-value]
UNCALLED = "pass the function itself, without calling it"
CONVERT = "convert it to a supported type, or pass a serdes that takes it"
CIRCULAR = (
    "value['order']['lines'][0] is circular, being value['order'] again; store what it refers to by a key instead"
)

Case = tuple["Callable[[], Told]", str, str]

PAYLOADS: dict[str, Case] = {
    "circular result of a step": (
        using(lambda context: context.step(lambda _: circle(), name="pay")),
        "SerDesError",
        f"the payload of step 'pay': {CIRCULAR}",
    ),
    "circular result of a child": (
        using(lambda context: context.run_in_child_context(lambda _: circle(), name="part")),
        "SerDesError",
        f"the payload of child context 'part': {CIRCULAR}",
    ),
    "circular input": (
        asking(lambda client: client.start("flow", circle())),
        "SerDesError",
        f"the input cannot be written as JSON: {CIRCULAR}",
    ),
    "circular result": (
        using(lambda _: circle()),
        "SerDesError",
        f"the result of function 'flow' cannot be written as JSON: {CIRCULAR}",
    ),
    "object from a step": (
        using(lambda context: context.step(lambda _: object(), name="pay")),
        "SerDesError",
        f"the payload of step 'pay': value is an object; {CONVERT}",
    ),
    "set from a step without a name, as plain JSON": (
        using(lambda context: context.step(lambda _: {"a": {1}}, config=StepConfig(serdes=JsonSerDes()))),
        "SerDesError",
        f"the payload of step without a name: value['a'] is a set; {CONVERT}",
    ),
    "object in an item of a map": (
        using(lambda context: context.map([1], lambda *_: object(), name="read").throw_if_error()),
        "SerDesError",
        f"the payload of map item 'map-item-0': value is an object; {CONVERT}",
    ),
    "object to an invoked function": (
        using(lambda context: context.invoke("other", object(), name="call")),
        "SerDesError",
        f"the payload of invoke 'call': value is an object; {CONVERT}",
    ),
    "tuple as a key": (
        using(lambda context: context.step(lambda _: {(1, 2): 3}, name="pay")),
        "SerDesError",
        "the payload of step 'pay': value has the key (1, 2), a tuple; use texts or numbers as keys",
    ),
    "object as input": (
        asking(lambda client: client.start("flow", {"card": object()})),
        "SerDesError",
        (
            "the input cannot be written as JSON: value['card'] is an object; "
            "use plain values, attrs classes or dataclasses"
        ),
    ),
    "future as result": (
        awaiting(no_await),
        "SerDesError",
        "the result of function 'flow' cannot be written as JSON: value is a DurableFuture; await it",
    ),
    "step over the limit": (
        using(lambda context: context.step(lambda _: "x" * LIMIT, name="pay")),
        "SerDesError",
        f"the payload of step 'pay' has 1048578 bytes, and 1048576 are allowed; {OFFLOAD}",
    ),
    "child over the limit": (
        using(large_summary),
        "SerDesError",
        f"the payload of child context 'report' has 1048577 bytes, and 1048576 are allowed; {OFFLOAD}",
    ),
    "invoke over the limit": (
        using(lambda context: context.invoke("other", "x" * LIMIT, name="call")),
        "SerDesError",
        f"the payload of invoke 'call' has 1048578 bytes, and 1048576 are allowed; {OFFLOAD}",
    ),
    "result of an invoked function over the limit": (
        large_answer,
        "InvokeError",
        (
            "Execution output payload size must be less than or equal to 1048576 bytes. 'report' was invoked, and its "
            "result has 1048578; store it elsewhere and return a reference to it"
        ),
    ),
    "serializer that cannot write": (
        unwilling(reads=False),
        "SerDesError",
        (
            "Unwilling could not serialize an int for step 'pay', LookupError('no key'); give it what it takes, or "
            "raise RetryableSerDesError where another try may help"
        ),
    ),
    "serializer that cannot read": (
        unwilling(reads=True),
        "SerDesError",
        (
            "Unwilling could not read the payload of step 'pay', LookupError('no key'); use the serdes that wrote it, "
            "or raise RetryableSerDesError where another try may help"
        ),
    ),
    "result over the limit": (
        using(lambda _: "x" * LARGEST),
        "SerDesError",
        (
            "the result of function 'flow' has 6291458 bytes, and 6291456 are allowed; "
            "store it elsewhere and return a reference to it"
        ),
    ),
    "input over the limit": (
        asking(lambda client: client.start("flow", "x" * LARGEST)),
        "ValidationError",
        "the input has 6291458 bytes, and at most 6291456 are kept; store it elsewhere and pass a reference",
    ),
    "input that does not fit": (
        partial(failing, takes_an_order, {"card": 4711}),
        "SerDesError",
        (
            "the input of execution '…' does not fit Order: required field missing @ value.amount; "
            "give what fits, or new fields a default"
        ),
    ),
    "input of another kind": (
        partial(failing, takes_an_order, "4711"),
        "SerDesError",
        (
            "the input of execution '…' does not fit Order: value is str, where an object with the fields card, amount "
            "was expected; give what fits, or new fields a default"
        ),
    ),
    "callback over the limit": (
        asking(lambda client: client.send_callback_success("any", "x" * (LIMIT + 1))),
        "ValidationError",
        "the result has 1048577 bytes, and at most 1048576 are kept; store it elsewhere and pass a reference",
    ),
}

CONTEXTS: dict[str, Case] = {
    "step inside a step": (
        using(lambda context: context.step(lambda _: context.step(lambda _: 1, name="inner"), name="outer")),
        "StepError",
        INSIDE,
    ),
    "step inside an asynchronous step": (
        awaiting(lambda context: context.step(lambda _: context.step(lambda _: 1, name="inner"), name="outer")),
        "StepError",
        INSIDE,
    ),
    "foreign thread": (
        foreign_thread,
        "ContextMisuseError",
        f"a durable context was used by a thread or task it was not given to; {NESTED}",
    ),
    "foreign task": (
        awaiting(foreign_task),
        "ContextMisuseError",
        f"a durable context was used by a thread or task it was not given to; {NESTED}",
    ),
    "context of the parent": (
        using(lambda context: context.run_in_child_context(lambda _: context.step(lambda _: 1), name="part")),
        "ChildContextError",
        (
            "a durable context was used in the body of another context; use the context that this body was given; "
            f"{NESTED}"
        ),
    ),
    "coroutine function in a def workflow": (
        using(lambda context: context.run_in_child_context(coroutine_branch, name="part")),
        "ChildContextError",
        "'coroutine_branch' is asynchronous, the workflow is not; make both `async def`, or none",
    ),
    "promise in a def workflow": (
        using(lambda context: context.promise),
        "ContextMisuseError",
        "context.promise combines the futures of `async def` workflows; use parallel in a `def` workflow",
    ),
    "asyncio.sleep": (
        awaiting(lambda _: asyncio.sleep(1)),
        "NotDurableError",
        (
            "workflow code called call_later() of its event loop for time, as asyncio.sleep() and timeouts do, which "
            "replay cannot repeat; use context.wait(), and context.now() for the time"
        ),
    ),
    "asyncio.to_thread": (
        awaiting(lambda _: asyncio.to_thread(print)),
        "NotDurableError",
        (
            "workflow code called run_in_executor() of its event loop for a thread, whose outcome replay "
            "cannot repeat; run that code in context.step()"
        ),
    ),
    "network": (
        awaiting(lambda _: asyncio.open_connection("127.0.0.1", 9)),
        "NotDurableError",
        (
            "workflow code called create_connection() of its event loop for the outside world, which replay "
            "cannot repeat; do that in context.step()"
        ),
    ),
    "waiting for nothing": (
        awaiting(lambda _: asyncio.Event().wait()),
        "NotDurableError",
        (
            "the workflow waits for something that no operation will complete; await operations, and use a "
            "callback for events from outside"
        ),
    ),
    "spinning": (
        awaiting(spinning),
        "NotDurableError",
        (
            "the workflow ran 100000 callbacks without an operation being completed; await an operation instead of "
            "spinning on sleep(0)"
        ),
    ),
    "blocking client in an async workflow": (
        awaiting(blocking_wait),
        "InvalidStateError",
        "waiting for a result here would stop every async def workflow of this process; use AsyncClient, and await",
    ),
    "changed code": (
        changed_code,
        "NonDeterministicExecutionError",
        (
            "execution '…' replayed wait 'cool-off' at position 1, where its journal has step 'pay'; "
            "deploy changed code as a new version"
        ),
    ),
    "no time": (
        using(lambda context: context.wait(Duration(), name="cool-off")),
        "ValidationError",
        "wait 'cool-off' is to last 0 s, where the shortest lasts 1 s; leave it out",
    ),
    "number as duration": (
        using(lambda context: context.wait(5)),
        "ValidationError",
        "the duration of wait without a name is 5; use a Duration, such as Duration.from_minutes(5)",
    ),
    "result in place of a step": (
        using(lambda context: context.step(17, name="pay")),
        "ValidationError",
        f"step 'pay' needs a function to call, not a value of type 'int'; {UNCALLED}",
    ),
    "coroutine in place of a step": (
        awaiting(lambda context: context.step(coroutine_branch(), name="pay")),
        "ValidationError",
        f"step 'pay' needs a function to call, not a value of type 'coroutine'; {UNCALLED}",
    ),
    "result in place of a branch": (
        using(lambda context: context.parallel([lambda _: 1, 17], name="offers")),
        "ValidationError",
        f"parallel 'offers' needs a function to call, not a value of type 'int'; {UNCALLED}",
    ),
    "inputs and function of a map the wrong way round": (
        using(lambda context: context.map(lambda *_: 1, [1, 2], name="offers")),
        "ValidationError",
        f"map 'offers' needs a function to call, not a value of type 'list'; {UNCALLED}",
    ),
    "nothing in place of a child": (
        using(lambda context: context.run_in_child_context(None, name="part")),
        "ValidationError",
        f"child context 'part' needs a function to call, not a value of type 'NoneType'; {UNCALLED}",
    ),
    "result in place of a submitter": (
        awaiting(lambda context: context.wait_for_callback(17, name="approval")),
        "ValidationError",
        f"wait_for_callback 'approval' needs a function to call, not a value of type 'int'; {UNCALLED}",
    ),
    "state in place of a check": (
        using(lambda context: context.wait_for_condition("new", WaitForConditionConfig(lambda *_: None, "new"))),
        "ValidationError",
        f"wait_for_condition without a name needs a function to call, not a value of type 'str'; {UNCALLED}",
    ),
    "result in place of a transaction": (
        using(lambda context: context.transaction(17, name="book")),
        "ValidationError",
        f"step 'book' needs a function to call, not a value of type 'int'; {UNCALLED}",
    ),
    "result in place of a named branch": (
        using(lambda _: ParallelBranch(17, "north")),  # type: ignore[arg-type]
        "ValidationError",
        f"func is 17; {UNCALLED}",
    ),
    "config in place of a name": (
        using(lambda context: context.step(lambda _: 1, ChildConfig())),
        "ValidationError",
        (
            "an operation's name is a text, not ChildConfig(serdes=None, sub_type=None, summary_generator=None, "
            "is_virtual=False); pass arguments by keyword, as in name=… and config=…"
        ),
    ),
    "item as its name": (
        using(lambda context: context.map([1], lambda *_: 1, config=MapConfig(item_namer=lambda item, _: item))),
        "ChildContextError",
        "an operation's name is a text, not 1; pass arguments by keyword, as in name=… and config=…",
    ),
    "function in place of its name": (
        using(lambda context: context.invoke({"name": "order"}, 1, name="call")),
        "ValidationError",
        "invoke 'call' was given {'name': 'order'}; use the name of a function, such as 'order' or 'order:2'",
    ),
    "config in place of a retry strategy": (
        using(lambda _: StepConfig(LinearRetryStrategyConfig())),  # type: ignore[arg-type]
        "ValidationError",
        ("retry_strategy is LinearRetryStrategyConfig(…); use a callable, such as what create_retry_strategy() makes"),
    ),
    "answer of a retry strategy": (
        using(lambda context: context.step(division, name="pay", config=StepConfig(lambda *_: True))),
        "StepError",
        f"the retry strategy of step 'pay' returned True, where a RetryDecision was expected; {DECIDE}",
    ),
    "no answer of a retry strategy in an async workflow": (
        awaiting(lambda context: context.step(division, config=StepConfig(lambda *_: None))),
        "StepError",
        f"the retry strategy of step without a name returned None, where a RetryDecision was expected; {DECIDE}",
    ),
    "answer of the retry strategy of a batch": (
        using(lambda context: context.map([1], division, name="read", config=MapConfig(retry_strategy=lambda *_: 5))),
        "ChildContextError",
        f"the retry strategy of map 'read' returned 5, where a RetryDecision was expected; {DECIDE}",
    ),
    "answer of the retry strategy of a block": (
        using(lambda context: with_retry(context, division, WithRetryConfig(lambda *_: False), "book")),
        "ChildContextError",
        f"the retry strategy of with_retry 'book' returned False, where a RetryDecision was expected; {DECIDE}",
    ),
    "number as the delay of a decision": (
        using(lambda _: RetryDecision.retry(5)),  # type: ignore[arg-type]
        "ValidationError",
        "delay is 5; use a Duration, such as Duration.from_minutes(5)",
    ),
    "answer of a wait strategy": (
        using(polling(lambda *_: True)),
        "WaitForConditionError",
        (
            "the wait strategy of wait_for_condition 'parcel' returned True, where a WaitForConditionDecision was "
            "expected; use WaitForConditionDecision.continue_waiting(delay) or WaitForConditionDecision.stop_polling()"
        ),
    ),
    "answer of a predicate": (
        using(lambda context: context.map([1], lambda *_: 1, name="read", config=COMPLETE_IF)),
        "ChildContextError",
        (
            "should_complete returned True, where a CompletionDecision was expected; "
            "use continue_batch() or complete_batch()"
        ),
    ),
    "generator in place of inputs": (
        using(lambda context: context.map((each for each in (1, 2)), lambda *_: 1, name="read")),
        "ValidationError",
        "map 'read' needs a list, not a value of type 'generator'; make one of it first, as list(…) does",
    ),
    "generator in place of branches": (
        awaiting(lambda context: context.parallel(each for each in (coroutine_branch,))),
        "ValidationError",
        "parallel without a name needs a list, not a value of type 'generator'; make one of it first, as list(…) does",
    ),
    "config in place of a wait strategy": (
        using(lambda _: WaitForConditionConfig(None, 0)),  # type: ignore[arg-type]
        "ValidationError",
        "wait_strategy is None; use a callable, such as what create_wait_strategy() makes",
    ),
    "number as timeout": (
        using(lambda _: CallbackConfig(timeout=30)),  # type: ignore[arg-type]
        "ValidationError",
        "timeout is 30; use a Duration, such as Duration.from_minutes(5)",
    ),
    "more successes than branches": (
        using(too_many_needed),
        "ValidationError",
        "min_successful is 3, but map 'offers' has only 2 branches; use at most so many",
    ),
    "transaction in memory": (
        using(lambda context: context.transaction(lambda *_: 1, name="book")),
        "TransactionsUnsupportedError",
        (
            "context.transaction needs a backend whose database can hold the application's own tables too, "
            "and executions are kept in a MemoryStore here; use sqlite:// or postgresql://, or context.step "
            "with its idempotency_key"
        ),
    ),
}

CLIENTS: dict[str, Case] = {
    "unknown function invoked": (
        using(lambda context: context.invoke("nobody", 1, name="call")),
        "InvokeError",
        "Function not found: nobody; no worker has registered it, start one that has it",
    ),
    "unknown function started": (
        asking(unregistered),
        "UnregisteredFunctionWarning",
        "no worker has registered 'nobody:$LATEST' yet; the execution stays due until one does",
    ),
    "plain function started": (
        asking(lambda client: client.start(spinning)),  # type: ignore[arg-type]
        "ValidationError",
        "<function spinning at …> is no durable function; decorate it with @durable_execution",
    ),
    "plain function for a worker": (
        lambda: raised(lambda: Worker("memory://", [spinning])),  # type: ignore[list-item]
        "ValidationError",
        "<function spinning at …> is no durable function; decorate it with @durable_execution",
    ),
    "result in place of a workflow": (
        lambda: raised(lambda: durable_execution(17)),  # type: ignore[call-overload]
        "ValidationError",
        "17 is no function; @durable_execution makes a workflow of one",
    ),
    "number as execution timeout": (
        lambda: raised(lambda: durable_execution(spinning, execution_timeout=30)),  # type: ignore[call-overload]
        "ValidationError",
        "execution_timeout is 30; use a Duration, such as Duration.from_minutes(5)",
    ),
    "number as execution timeout of a start": (
        asking(lambda client: client.start("flow", execution_timeout=30)),  # type: ignore[arg-type]
        "ValidationError",
        "execution_timeout is 30; use a Duration, such as Duration.from_minutes(5)",
    ),
    "malformed function started": (
        asking(lambda client: client.start("an order")),
        "InvalidParameterValueError",
        "Invalid function ARN 'an order'; write name, name:version or a full ARN",
    ),
    "malformed function invoked": (
        using(lambda context: context.invoke("an order", 1, name="call")),
        "InvalidParameterValueError",
        "Invalid function ARN 'an order'; write name, name:version or a full ARN, in invoke 'call'",
    ),
    "function of another account": (
        using(lambda context: context.invoke("123456789012:function:order", 1, name="call")),
        "InvalidParameterValueError",
        (
            "Cannot start a CHAINED_INVOKE on a function in another account. Functions of this store have the account "
            "000000000000; write the name alone, in invoke 'call'"
        ),
    ),
    "name that is none": (
        asking(lambda client: client.start("flow", name="order 17")),
        "ValidationError",
        "an execution name is 1 to 64 of A-Z a-z 0-9 _ -, not 'order 17'",
    ),
    "name that is a number": (
        asking(lambda client: client.start("flow", name=17)),  # type: ignore[arg-type]
        "ValidationError",
        "an execution name is 1 to 64 of A-Z a-z 0-9 _ -, not 17",
    ),
    "name that is taken": (
        asking(taken_name),
        "ExecutionAlreadyStartedError",
        "an execution 'o-17' of 'flow' was started with another input; choose another name, or the same input",
    ),
    "unknown execution": (
        asking(lambda client: client.describe("o-17")),
        "ExecutionNotFoundError",
        "no execution has the ARN, id or name 'o-17'; its retention may be over",
    ),
    "ended execution": (
        asking(ended_execution),
        "ExecutionConflictError",
        "execution '…' has ended as STOPPED; only a running one can be paused",
    ),
    "impatience": (
        waiting_too_shortly,
        "ResultTimeoutError",
        "execution '…' has not ended within 0.01 s; it goes on",
    ),
    "no callback id": (
        asking(lambda client: client.send_callback_success("nonsense", "yes")),
        "CallbackNotFoundError",
        "this is not a callback id; pass on what the workflow was given, unchanged",
    ),
    "callback id that is a number": (
        asking(lambda client: client.send_callback_heartbeat(17)),  # type: ignore[arg-type]
        "CallbackNotFoundError",
        "this is not a callback id; pass on what the workflow was given, unchanged",
    ),
    "callback that fails with a text": (
        asking(lambda client: client.send_callback_failure("any", "too expensive")),  # type: ignore[arg-type]
        "ValidationError",
        "an error is given as an ErrorObject, not 'too expensive'; use ErrorObject(message=…)",
    ),
    "unknown callback id": (
        partial(completing, other_store=True),
        "CallbackNotFoundError",
        "no callback has this id, which names execution '…'; that may have been purged, or be in another backend",
    ),
    "second completion": (
        partial(completing, twice=True),
        "CallbackClosedError",
        "the callback was completed already, or its execution '…' has ended; the first completion counts",
    ),
    "completion of an ended execution": (
        partial(completing, ended=True),
        "CallbackClosedError",
        "the callback was completed already, or its execution '…' has ended; the first completion counts",
    ),
    "late completion": (
        partial(completing, late=True),
        "CallbackClosedError",
        (
            "the callback's time is over, and execution '…' goes on without it; give the callback a longer timeout, or "
            "send heartbeats"
        ),
    ),
    "callback result that is no text": (
        asking(lambda client: client.send_callback_success("any", {"a": 1})),  # type: ignore[arg-type]
        "ValidationError",
        "a callback's result is text or bytes, not {'a': 1}; write it as JSON, say",
    ),
}

SCHEMES = "lambda://, memory://, postgres://, postgresql://, redis://, redis+cluster://, rediss://, sqlite://, unix://"

URLS: dict[str, Case] = {
    "unknown scheme": (
        url("mysql://ada:secret@host/orders"),
        "BackendUrlError",
        f"'mysql://ada:***@host/orders' is no backend URL; it starts with one of {SCHEMES}",
    ),
    "no scheme": (
        url("perdure.db"),
        "BackendUrlError",
        f"'perdure.db' is no backend URL; it starts with one of {SCHEMES}",
    ),
    "two slashes": (
        url("sqlite://perdure.db"),
        "BackendUrlError",
        (
            "'sqlite://perdure.db' has a host, which SQLite has not; write three slashes: sqlite:///relative.db or "
            "sqlite:////absolute/path.db"
        ),
    ),
    "unknown option": (
        url("sqlite:///perdure.db?sync=full"),
        "BackendUrlError",
        "a SQLite store has no option 'sync'; it has synchronous, busy_timeout",
    ),
    "no directory": (
        url("sqlite:////no/such/folder/perdure.db"),
        "BackendUrlError",
        "the directory '/no/such/folder' of the SQLite store does not exist; create it, or correct the URL",
    ),
    "memory with a name": (
        url("memory://orders"),
        "BackendUrlError",
        "memory:// has no place and no options, got 'memory://orders'; each opening is a store of its own",
    ),
}

CaseOfFolder = tuple["Callable[[Path], Told]", str, str]

FILES: dict[str, CaseOfFolder] = {
    "read-only database": (
        read_only,
        "BackendUrlError",
        "'…/perdure.db' cannot be read and written; correct its permissions or the URL",
    ),
    "database that has become read-only": (
        partial(writing, hinder=no_writing),
        "StoreError",
        (
            "SQLite store '…/perdure.db' can no longer be written: attempt to write a readonly database; "
            "correct its permissions"
        ),
    ),
    "full disk": (
        partial(writing, hinder=no_room),
        "StoreUnavailableError",
        "SQLite store '…/perdure.db' has no room: database or disk is full; free disk space, and what waits goes on",
    ),
    "database of a newer version": (
        lambda folder: file(folder, newer),
        "SchemaVersionError",
        (
            "'…/perdure.db' has schema version 999, and this version of Perdure knows those up to …; "
            "upgrade perdure here to the version that wrote it"
        ),
    ),
    "database of another application": (
        lambda folder: file(folder, another_application),
        "BackendUrlError",
        "'…/perdure.db' is the SQLite database of another application; give Perdure a file of its own",
    ),
    "no database": (
        lambda folder: file(folder, lambda path: path.write_bytes(b"not a database, but a long text" * 1000)),
        "BackendUrlError",
        (
            "'…/perdure.db' cannot be used as a SQLite store: file is not a database; "
            "expected a writable SQLite database file or none yet"
        ),
    ),
    "wrong JSON on the command line": (
        lambda folder: command(folder, "start", "order", "--input", "{card: 4711}"),
        "exit code 2",
        (
            "perdure: invalid value for '--input': no JSON: Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1); quote it for the shell, or name a file as @FILE; see 'perdure start --help'"
        ),
    ),
    "unknown execution on the command line": (
        lambda folder: command(folder, "show", "o-17"),
        "exit code 3",
        (
            "perdure: no execution has the ARN, id or name 'o-17'; its retention may be over; "
            "looked in 'sqlite:///perdure.db'"
        ),
    ),
    "module that is not there": (
        lambda folder: command(folder, "worker", "nosuch:order"),
        "exit code 2",
        "perdure: no module 'nosuch' in '…' or on Python's path; see 'perdure worker --help'",
    ),
    "memory on the command line": (
        lambda folder: command(folder, "list", "--backend", "memory://"),
        "exit code 2",
        (
            "perdure: memory:// is private to one process; name a store such as 'sqlite:///perdure.db'; "
            "see 'perdure list --help'"
        ),
    ),
}

IN_PROCESS = PAYLOADS | CONTEXTS | CLIENTS | URLS


def pattern(message: str) -> re.Pattern[str]:
    """What a message with `…` for what varies matches."""
    return re.compile(".+".join(map(re.escape, message.split("…"))), re.DOTALL)


def check(given: Told, error: str, message: str) -> None:
    assert given.error == error
    assert pattern(message).fullmatch(given.message), given.message


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What a worker logs of failing executions is tested elsewhere."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize(("provoke", "error", "message"), IN_PROCESS.values(), ids=IN_PROCESS)
def test_bad_input(provoke: Callable[[], Told], error: str, message: str) -> None:
    """A user is told what is wrong, where, and what to do."""
    check(provoke(), error, message)


@pytest.mark.parametrize(("provoke", "error", "message"), FILES.values(), ids=FILES)
def test_bad_files_and_commands(provoke: Callable[[Path], Told], error: str, message: str, folder: Path) -> None:
    """The same of a folder's files, and of commands in it."""
    check(provoke(folder), error, message)


def test_a_large_child_is_no_bad_input() -> None:
    """What is too large to record of a child's result is rebuilt from the child's operations instead."""
    lengths: list[int] = []

    def flow(context: Any) -> None:
        value = context.run_in_child_context(lambda child: child.step(lambda _: "x") * (LIMIT + 1), name="part")
        lengths.append(len(value))
        raise LookupError("enough seen")

    assert using(flow)().message == "enough seen"
    assert lengths == [LIMIT + 1]


def rows() -> list[tuple[str, str]]:
    """The messages of the guide's tables, with the remedy beside each."""
    tables = re.findall(r"^\| message \|.*\n\| ---.*\n((?:\|.*\n)+)", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for table in tables for row in table.splitlines()]
    return [(message.strip("`"), remedy) for message, _, remedy in cells]


def test_the_guide_lists_what_is_said() -> None:
    """Each message in the table of errors is one that is asserted here, and each of these is in the table."""
    known = [message.replace("`", "") for cases in (IN_PROCESS, FILES) for _, _, message in cases.values()]
    listed = rows()
    assert listed
    assert all(remedy for _, remedy in listed)
    assert [row for row, _ in listed if not any(pattern(row).fullmatch(message) for message in known)] == []
    assert [message for message in known if not any(pattern(row).fullmatch(message) for row, _ in listed)] == []


def test_patterns_are_not_too_lenient() -> None:
    """`…` stands for something, and everything else for itself."""
    assert not pattern("execution '…' ended").fullmatch("execution '' ended")
    assert not pattern("a.b").fullmatch("axb")


def test_nothing_raised_is_an_error() -> None:
    """A provocation that provokes nothing does not pass."""
    with pytest.raises(AssertionError, match="answered 1"):
        failing(lambda *_: 1)
