"""Lua that lacks one rule fails the kit's script that is about it."""

import pytest

from perdure.backends.redis import Location, RedisStore, script
from perdure.testing.conformance import Subject, scripts
from tests.redis_clock import CLOCK, Clock
from tests.servers import with_options

SEQUENCE = scripts.sequence_of_the_next_owner
MUTATIONS = [
    ("fence", "not v[1] or v[1] ~= token", "not v[1]", scripts.commit_of_a_former_owner),
    ("commit", "unseen and now or nil", "nil", scripts.delivery_before_the_suspend),
    ("fence", "if seq == last and seq > 0 then", "if false then", scripts.lost_reply_of_a_commit),
    ("header", "h.ow, h.tk, h.wk = owner, token, nil", "h.ow, h.tk, h.sq = owner, token, nil", SEQUENCE),
    ("claim", "if number <= last then", "if false then", scripts.late_duplicate_of_a_claim),
    ("lease", "if not l[1] or l[2] then", "if not l[1] then", scripts.claim_of_a_reaped_owner),
    ("lease", "call('ZADD', P .. 'lease', S(now + l[1]), owner)", "", scripts.claim_just_before_the_lease_ends),
    ("settle", "h.se = through end", "h.se = h.el end", scripts.effect_while_carrying_out),
    ("header", "h.el, h.ed = h.ln, at + EFFECT_GRACE", "h.el = h.ln", scripts.stop_of_a_child),
    ("create", "call('EXISTS', P .. 't:' .. id) == 1", "false", scripts.late_duplicate_of_a_create),
    ("deliver", "if text == 'D' .. nonce then", "if false then", scripts.lost_reply_of_a_delivery),
    ("signal", "call('SISMEMBER', P .. 'k:' .. id, key) == 1", "false", scripts.late_duplicate_of_a_pause),
    ("heartbeat", "now + heartbeat)", "nil)", scripts.heartbeats_of_a_sleeping_execution),
    ("header", "if not h.iv then h.iv, h.ia", "do h.iv, h.ia", scripts.crash_before_the_first_commit),
    ("commit", "elseif h.iv == token then", "else", scripts.crash_before_the_first_commit),
    ("commit", "if format ~= '' then\n    h.iv", "if true then\n    h.iv", scripts.release_after_a_crash),
    ("journal", "return at == last_at and tag == last_tag", "return true", scripts.commit_on_another_history),
]


def play(url, name, scene):
    place = Location.parse(with_options(url, namespace=f"{Location.parse(url).namespace}.{name}"))
    clock = Clock(place)
    try:
        Subject(open=lambda: RedisStore(place, clock=CLOCK), advance=clock.advance).play(scene)
    finally:
        clock.close()


@pytest.mark.parametrize(("name", "whole", "lacking", "scene"), MUTATIONS, ids=range(len(MUTATIONS)))
def test_caught(redis_url, monkeypatch, name, whole, lacking, scene):
    """The script passes on the intact store, and fails an assertion on the mutant."""
    intact = script._source
    assert intact(name).count(whole) == 1
    play(redis_url, "intact", scene)
    monkeypatch.setattr(
        script, "_source", lambda part: intact(part).replace(whole, lacking) if part == name else intact(part)
    )
    with pytest.raises(AssertionError):
        play(redis_url, "mutant", scene)
