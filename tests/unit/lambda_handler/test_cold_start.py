"""What a cold start loads, and what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.unit.lambda_handler.service import ENVIRONMENT

INVOKE = """
import json, sys
from perdure.durable import durable_execution
from tests.unit.lambda_handler.service import LambdaContext
before = set(sys.modules)
@durable_execution
def blocking(event, context):
    return context.step(lambda _: event["name"])
@durable_execution
async def awaiting(event, context):
    async def body(_):
        return event["name"]
    return await context.step(body)
output = {colour}(json.loads(sys.argv[1]), LambdaContext())
assert output == {{"Status": "SUCCEEDED", "Result": '"World"'}}, output
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules(code, service):
    """The modules that are loaded in the end."""
    environment = {**os.environ, **ENVIRONMENT, "AWS_ENDPOINT_URL_LAMBDA": service.url}
    ran = subprocess.run(
        [sys.executable, "-c", code, json.dumps(service.event())],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout))


@pytest.mark.parametrize("unwanted", ["asyncio", "cattrs", "boto3", "botocore", "logging.config", "perdure.service"])
def test_defining_a_function_loads_little(unwanted, service):
    """Neither asyncio nor cattrs, and nothing of AWS before the first invocation."""
    code = "import json, sys; from perdure.durable import durable_execution; print(json.dumps(list(sys.modules)))"
    assert unwanted not in modules(code, service)


def test_a_blocking_function_needs_no_asyncio(service):
    """Nor cattrs, nor what boto3 has beside botocore; nor the service and the stores."""
    loaded = modules(INVOKE.format(colour="blocking"), service)
    assert "botocore.client" in loaded
    unwanted = {"cattrs", "boto3", "s3transfer", "perdure.service", "perdure.storage", "perdure.client", "asyncio"}
    assert not loaded & unwanted


def test_an_async_function_needs_asyncio_only(service):
    """And of it the portal."""
    loaded = modules(INVOKE.format(colour="awaiting"), service)
    assert not loaded & {"cattrs", "boto3", "s3transfer", "perdure.service", "perdure.storage", "perdure.client"}


def test_a_session_that_was_set_up_is_used(service):
    """An author's `boto3.setup_default_session` holds for the handler's client too."""
    code = """
import json, sys
import boto3
boto3.setup_default_session(region_name="eu-west-1")
from perdure.adapters.lambda_handler.client import shared_client
assert shared_client().meta.region_name == "eu-west-1"
print("[]")
"""
    modules(code, service)


class TestInitialization:
    """Lambda loads the module of the handler with more CPU than an invocation has, or ahead of any."""

    CODE = """
import json, sys
sys.path.insert(0, sys.argv[2])
import app
print(json.dumps(list(sys.modules)))
"""
    APP = "from perdure.durable import durable_execution\n@durable_execution\n{prefix}def order(event, context): ...\n"

    def loaded(self, folder, prefix="", **environment):
        (folder / "app.py").write_text(self.APP.format(prefix=prefix))
        known = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        ran = subprocess.run(
            [sys.executable, "-c", self.CODE, "", str(folder)],
            env={**known, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return set(json.loads(ran.stdout))

    @pytest.mark.parametrize(("prefix", "driver"), [("", "blocking"), ("async ", "awaiting")])
    def test_what_an_invocation_needs_is_loaded_with_the_handler(self, prefix, driver, tmp_path):
        """The client too."""
        loaded = self.loaded(tmp_path, prefix, _HANDLER="app.order", **ENVIRONMENT)
        assert {"botocore.httpsession", f"perdure.engine.{driver}"} <= loaded

    @pytest.mark.parametrize("handler", ["api.order", "", "app"])
    def test_elsewhere_it_is_not(self, handler, tmp_path):
        """A function that only starts executions of this one does not pay for its client."""
        assert "botocore" not in self.loaded(tmp_path, _HANDLER=handler, **ENVIRONMENT)

    def test_what_is_wrong_is_told_by_the_first_invocation(self, tmp_path):
        """Without a region there is no client, and the module is loaded all the same."""
        assert "perdure.engine.blocking" in self.loaded(tmp_path, _HANDLER="app.order", AWS_CONFIG_FILE="/none")
