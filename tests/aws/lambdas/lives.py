"""Handlers whose process may die at any request, to be invoked again in another one."""

from __future__ import annotations

import boto3
from botocore.config import Config

from perdure.durable import durable_execution
from perdure.errors import InvocationError

IN_A_ROW = 3
"""Deaths without an invocation between them that ended well; after five, the emulator gives an execution up."""


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


class Lives:
    """
    A handler whose process dies now and then, before a request is sent or after it has been answered.

    Attributes:
        lived: Its processes so far.
        deaths: How many of them died.
    """

    def __init__(self, workflow, chance, *, share=0.05, most=6):
        """
        Args:
            workflow: What every process runs.
            chance: Decides when to die.
            share: How likely that is at each request, before as after.
            most: How many processes may die.
        """
        self.lived = []
        self.deaths = 0
        self._workflow = workflow
        self._chance = chance
        self._share = share
        self._most = most
        self._row = 0
        self._client = boto3.client("lambda", config=Config(max_pool_connections=20))

    def __call__(self, event, context):
        life = Life(self._client, self._dies)
        self.lived.append(life)
        try:
            output = durable_execution(self._workflow, boto3_client=life)(event, context)
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
