"""Canonical JSON: the rules of RFC 8785, by hand, and nothing else is read back."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rfc8785")

from sidestep.audit.canonical import from_bytes, to_bytes


def test_the_sample_object_of_the_rfc():
    # RFC 8785, section 3.2.2: the input as printed there, and the bytes of section 3.2.4.
    came = r"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"""
    wanted = bytes.fromhex(
        "7b 22 6c 69 74 65 72 61 6c 73 22 3a 5b 6e 75 6c 6c 2c 74 72"
        "75 65 2c 66 61 6c 73 65 5d 2c 22 6e 75 6d 62 65 72 73 22 3a"
        "5b 33 33 33 33 33 33 33 33 33 2e 33 33 33 33 33 33 33 2c 31"
        "65 2b 33 30 2c 34 2e 35 2c 30 2e 30 30 32 2c 31 65 2d 32 37"
        "5d 2c 22 73 74 72 69 6e 67 22 3a 22 e2 82 ac 24 5c 75 30 30"
        "30 66 5c 6e 41 27 42 5c 22 5c 5c 5c 5c 5c 22 2f 22 7d"
    )
    assert to_bytes(json.loads(came)) == wanted
    assert from_bytes(wanted) == json.loads(came)


def test_keys_are_in_the_order_of_their_utf16_units():
    # Section 3.2.3. By code points the smiley (U+1F600) would come last, after U+FB33; its first
    # UTF-16 unit, D83D, comes before.
    keys = ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    data = to_bytes({key: place for place, key in reversed(list(enumerate(keys)))})
    assert list(from_bytes(data)) == keys
    assert data.startswith(b'{"\\r":0,"1":1,')


# Appendix B: a double's bits and its text.
@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_have_the_forms_of_the_rfc(bits, text):
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert to_bytes([number]) == f"[{text}]".encode()
    assert from_bytes(f"[{text}]".encode()) == [number]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_written_reads_back_and_is_json(value):
    data = to_bytes(value)
    assert from_bytes(data) == value
    assert json.loads(data, parse_int=float) == value  # any reader that takes numbers for doubles
    assert to_bytes(from_bytes(data)) == data


@given(st.binary(max_size=40) | values.map(lambda v: json.dumps(v).encode()))
def test_whatever_comes_is_canonical_or_a_sentence(data):
    try:
        value = from_bytes(data)
    except ValueError as error:
        assert str(error)
    else:
        assert to_bytes(value) == data


class Own:
    pass


LOOP: list = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, float("nan")]}, "/a/1 is nan"),
        ({"a": {"b": -float("inf")}}, "/a/b is -inf"),
        ([2**53], "/0 is an integer beyond 2"),
        ([-(2**53)], "/0 is an integer beyond 2"),
        ([10**5000], "/0 is an integer beyond 2"),
        ({"a": "\ud800"}, "/a holds half of a surrogate pair"),
        ({"\ud800": 1}, "the value has a key"),
        ({"a": {1: 2}}, "/a has a key that is no text"),
        ([Own()], "/0 is of type Own"),
        ([np.int64(3)], "/0 is of type int64"),
        (b"x", "the value is of type bytes"),
        (LOOP, "nested too deeply"),
    ],
)
def test_what_has_no_canonical_form_is_refused_with_its_place(value, said):
    with pytest.raises(ValueError, match=said):
        to_bytes(value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a":1,"a":1}', "same key twice"),
        (b'{"b":1,"a":1}', "from byte 2 on"),
        (b'{"a": 1}', "from byte 5 on"),
        (b"[1]\n", "from byte 3 on"),
        (b"[1.0]", "canonical"),
        (b"[-0]", "canonical"),
        (b"[1e2]", "canonical"),
        (b"[9007199254740993]", "canonical"),
        (rb'["\u0041"]', "canonical"),
        (rb'["\/"]', "canonical"),
        (rb'["\ud800"]', "surrogate"),
        (b"[NaN]", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "inf"),
        (b"[" + b"1" * 5000 + b"]", "inf"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b"[\xff]", "byte 1 is no UTF-8"),
        (b"[1", "no JSON from character 2"),
        (b"", "no JSON"),
        (b"[" * 10**6, "nested too deeply"),
    ],
)
def test_other_bytes_are_refused(data, said):
    with pytest.raises(ValueError, match=said):
        from_bytes(data)
