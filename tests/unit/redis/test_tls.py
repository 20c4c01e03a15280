"""Stores over TLS."""

import asyncio
import ssl
from pathlib import Path

import pytest

from perdure.errors import StoreError
from tests.unit.redis.conftest import Proxy, held, opened

FOLDER = Path(__file__).with_name("tls")
CERTIFICATE = FOLDER / "certificate.pem"


@pytest.fixture
def tls():
    """What a server with the test's certificate, which no authority has signed, needs to know."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, FOLDER / "key.pem")
    return context


def test_trusted(server, tls):
    """A server whose certificate is trusted is talked to, hints included."""

    async def scene():
        async with Proxy(server.url, tls) as between:
            url = between.url.replace("redis://", "rediss://").replace("127.0.0.1", "localhost")
            async with opened(url, ssl_ca_certs=CERTIFICATE) as store:
                heard = asyncio.Event()
                store.watch(lambda _: heard.set())
                await (await held(store)).write()
                async with asyncio.timeout(5):
                    await heard.wait()

    asyncio.run(scene())


def test_not_trusted(server, tls):
    """A server whose certificate nobody knows is not, unless it is asked not to look."""

    async def scene():
        async with Proxy(server.url, tls) as between:
            url = between.url.replace("redis://", "rediss://")
            with pytest.raises(StoreError, match="self-signed certificate"):
                async with opened(url):
                    pass
            async with opened(url, ssl_cert_reqs="none", ssl_check_hostname="off") as store:
                await held(store)

    asyncio.run(scene())


def test_other_name(server, tls):
    """A certificate of another host is refused."""

    async def scene():
        async with Proxy(server.url, tls) as between:
            url = between.url.replace("redis://", "rediss://")
            with pytest.raises(StoreError, match=r"not valid for '127\.0\.0\.1'"):
                async with opened(url, ssl_ca_certs=CERTIFICATE):
                    pass
            async with opened(url, ssl_ca_certs=CERTIFICATE, ssl_check_hostname="off") as store:
                await held(store)

    asyncio.run(scene())
