"""Where the service is, and which function is meant: `lambda://checkout:live?region=eu-west-1`."""

from __future__ import annotations

from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from perdure.backends.aws_lambda.function import FORMS, LambdaFunction
from perdure.errors import BackendUrlError, ValidationError
from perdure.storage import mask

OPTIONS = ("region", "profile", "endpoint_url")
_FORM = "lambda://function:qualifier?region=eu-west-1"


@attrs.frozen(kw_only=True)
class Location:
    """
    A function of Lambda, or none, and how the service is reached.

    Attributes:
        function: What is meant where no function is named.
        region, profile: As in AWS's configuration; None: what the environment says.
        endpoint_url: Of an emulator, say; None: that of the region.
    """

    function: LambdaFunction | None = None
    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """
        Read a URL.

        Raises:
            BackendUrlError: It names no function that can be, or has an option that does not exist or cannot be.
        """
        rest = url.removeprefix("lambda://")
        if rest == url:
            raise BackendUrlError(f"{mask(url)!r} is no URL of AWS Lambda, which looks like {_FORM}")
        place, _, query = rest.partition("?")
        options: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            options[name] = _checked(name, value)
        function = _function(place)
        region = function.region if function else None
        if region is not None and options.setdefault("region", region) != region:
            raise BackendUrlError(
                f"the function is in region {region!r} and the option region is {options['region']!r}; leave that out"
            )
        return cls(function=function, **options)


def _function(place: str) -> LambdaFunction | None:
    named = unquote(place.removesuffix("/"))
    try:
        return LambdaFunction.parse(named) if named else None
    except ValidationError:
        raise BackendUrlError(
            f"{mask(f'lambda://{place}')!r} names no function of AWS Lambda; write {_FORM}, where the function is "
            f"{FORMS}; shells need single quotes around a $"
        ) from None


def _checked(name: str, value: str) -> str:
    if name not in OPTIONS:
        raise BackendUrlError(f"lambda:// has no option {name!r}; it has {', '.join(OPTIONS)}")
    if not value:
        raise BackendUrlError(f"option {name} is empty; give it a value, or leave it out")
    if name == "endpoint_url":
        _check_endpoint(value)
    return value


def _check_endpoint(value: str) -> None:
    try:
        parts = urlsplit(value)
        # A port that is none raises.
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and "@" not in parts.netloc:
            return
    except ValueError:
        pass
    raise BackendUrlError(
        f"option endpoint_url is {mask(value)!r}, expected http:// or https:// with a host, without a user or password"
    )
