import json

import pytest

from sidestep import Constant, Dynamic, Scheduled, Static
from sidestep.errors import SidestepError
from sidestep.guidance.config import as_dict, from_dict

RULES = [
    Constant(3.0),
    Constant(Scheduled("cosine", 5.0)),
    Static(),
    Static(time=(0.9, 0.1), before=-2.0, after=Scheduled("v", 4.0)),
    Dynamic(before=1.0, fallback=None),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_rule_survives_a_file(rule):
    assert from_dict(json.loads(json.dumps(as_dict(rule)))) == rule


def test_settings_left_out_have_their_defaults():
    assert from_dict({"name": "static", "time": 0.7}) == Static(time=0.7)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"time": 0.5}, "needs a name"),
        ({"name": "sttaic"}, "did you mean static"),
        ({"name": "anti-memorization"}, "anti-memorization has no default for references"),
        (
            {"name": "random-words", "count": "x"},
            "count of random-words is 'x'; give a whole",
        ),
        (
            {"name": "random-words", "count": 2.5},
            "count of random-words is 2.5; give a whole",
        ),
        ({"name": "cads", "low": True}, "low of cads is True; give a number"),
        ({"name": "dynamic", "fallback": "late"}, "fallback of dynamic is 'late'; give a number"),
        ({"name": "static", "at": 0.5}, "no setting at; it has after, before, time"),
    ],
)
def test_what_is_wrong_is_said(given, sentence):
    with pytest.raises(SidestepError, match=sentence):
        from_dict(given)


def test_an_object_without_a_name_cannot_be_written():
    with pytest.raises(SidestepError, match="object is no registered rule"):
        as_dict(object())
