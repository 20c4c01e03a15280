"""What a handler is told besides its event, and its environment; loads nothing, since cold starts are measured."""

from __future__ import annotations

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "us-west-2",
    "AWS_DEFAULT_REGION": "us-west-2",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


class LambdaContext:
    """What Lambda tells a handler besides its event."""

    def __init__(self, name: str) -> None:
        self.function_name = name
        self.function_version = "$LATEST"
        self.invoked_function_arn = f"arn:aws:lambda:us-west-2:123456789012:function:{name}:$LATEST"
        self.aws_request_id = "00000000-0000-4000-8000-000000000000"
        self.memory_limit_in_mb = "128"
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = "local"
        self.identity = self.client_context = self.tenant_id = None

    def get_remaining_time_in_millis(self) -> int:
        """A minute."""
        return 60_000
