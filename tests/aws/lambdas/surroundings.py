"""What surrounds a handler on Lambda: what it is told besides its event, and its environment."""

from __future__ import annotations

import itertools
import os

from tests.official.names import REGION, function_arn

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class LambdaContext:
    """What Lambda tells a handler besides its event."""

    _numbers = itertools.count(1)

    def __init__(self, name, tenant_id=None, seconds=60.0):
        self.function_name = name
        self.function_version = "$LATEST"
        self.invoked_function_arn = function_arn(name)
        self.aws_request_id = f"00000000-0000-4000-8000-{next(self._numbers):012}"
        self.memory_limit_in_mb = "128"
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = "local"
        self.identity = self.client_context = None
        self.tenant_id = tenant_id
        self._seconds = seconds

    def get_remaining_time_in_millis(self):
        """As if no time passed."""
        return int(self._seconds * 1000)
