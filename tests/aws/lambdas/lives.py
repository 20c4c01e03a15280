"""Handlers whose process may die at any request, or run out of time, to be invoked again in another one."""

from __future__ import annotations

import boto3
from botocore.config import Config

from perdure.durable import durable_execution
from perdure.errors import InvocationError, OutOfTimeError

IN_A_ROW = 3
"""Invocations that may break off without one between them that ends well; after five, the emulator gives up."""
AMPLE = 60_000
"""Milliseconds."""


class DiedError(Exception):
    """The process died."""


class Life:
    """
    The client of a process that lives for one invocation at most; once it is dead, nothing leaves it.

    Attributes:
        is_over: Whether its invocation has ended.
        is_dead: Whether its process has died.
        late: How many requests came after the end.
    """

    def __init__(self, client, dies):
        self._client = client
        self._dies = dies
        self.is_over = self.is_dead = False
        self.late = 0

    def checkpoint_durable_execution(self, **members):
        return self._request(self._client.checkpoint_durable_execution, members)

    def get_durable_execution_state(self, **members):
        return self._request(self._client.get_durable_execution_state, members)

    def _request(self, method, members):
        self.late += self.is_over
        self._moment()
        answer = method(**members)
        self._moment()
        return answer

    def _moment(self):
        self.is_dead = self.is_dead or self._dies()
        if self.is_dead:
            raise DiedError


class Hurry:
    """A Lambda context that tells so many times of ample time, then of none."""

    def __init__(self, context, ample):
        self._context = context
        self._ample = ample

    def __getattr__(self, name):
        return getattr(self._context, name)

    def get_remaining_time_in_millis(self):
        self._ample -= 1
        return AMPLE if self._ample >= 0 else 1


class Lives:
    """
    A handler whose process dies now and then, before a request is sent or after it has been answered.

    Attributes:
        lived: Its processes so far.
        deaths: How many of them died.
        haste: How many invocations had not the time for all they would have done.
    """

    def __init__(self, workflow, chance, *, share=0.05, most=6, hurry=0.0):
        """
        Args:
            workflow: What every process runs.
            chance: Decides when to die.
            share: How likely that is at each request, before as after.
            most: How many processes may die.
            hurry: How likely an invocation has little time.
        """
        self.lived = []
        self.deaths = self.haste = 0
        self._workflow = workflow
        self._chance = chance
        self._share = share
        self._most = most
        self._hurry = hurry
        self._row = 0
        self._client = boto3.client("lambda", config=Config(max_pool_connections=20))

    def __call__(self, event, context):
        life = Life(self._client, self._dies)
        self.lived.append(life)
        if self._row < IN_A_ROW and self._chance.random() < self._hurry:
            context = Hurry(context, self._chance.randint(1, 5))
        try:
            output = durable_execution(self._workflow, boto3_client=life)(event, context)
        except OutOfTimeError:
            assert isinstance(context, Hurry)
            self.haste += 1
            self._row += 1
            raise
        except InvocationError:
            assert life.is_dead, "an invocation broke off, though its process lived"
            raise
        finally:
            life.is_over = True
        assert not life.is_dead, "an invocation ended well, though its process had died"
        self._row = 0
        return output

    def _dies(self):
        if self.deaths >= self._most or self._row >= IN_A_ROW or self._chance.random() >= self._share:
            return False
        self.deaths += 1
        self._row += 1
        return True
