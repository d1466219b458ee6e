"""The paper's notation: what is printed parses and prints back, mistakes are pointed at."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnet_jax.models.spec import MgNetSpec, SpecError, modify, parse

UNIFORM = MgNetSpec((2, 2, 2, 2), ((256, 256),) * 4, True)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("MgNet[2,2,2,2]-256-B^l", UNIFORM),
        ("MgNet[2,2,2,2]-[256]-B^l", UNIFORM),
        ("MgNet[2,2,2,2]-[256]-B^{l}", UNIFORM),
        (r"MgNet[2,2,2,2]-[256]-B^{\ell}", UNIFORM),
        (r"MgNet[2,2,2,2]-[256]-B^\ell", UNIFORM),
        ("MgNet[2,2,2,2]-[256]-B^ℓ", UNIFORM),
        ("MgNet[2,2,2,2]-[256,256,256,256]-B^l", UNIFORM),
        (" MgNet[2, 2, 2, 2] - [256] - B^l ", UNIFORM),
        ("MgNet[2,2,2,2]-[256]-B^{l,i}", MgNetSpec((2,) * 4, ((256, 256),) * 4, False)),
        ("MgNet[2,2,2,2]-[256]-B^{ℓ,i}", MgNetSpec((2,) * 4, ((256, 256),) * 4, False)),
        (r"MgNet[2,2]-[256]-B^{\ell, i}", MgNetSpec((2,) * 2, ((256, 256),) * 2, False)),
        (
            "MgNet[3,4,6,3]-[64,128,256,512]-B^l",
            MgNetSpec((3, 4, 6, 3), ((64, 64), (128, 128), (256, 256), (512, 512)), True),
        ),
        ("MgNet[1,2]-[(64,32),(8,16)]-B^l", MgNetSpec((1, 2), ((64, 32), (8, 16)), True)),
        ("MgNet[1,2]-[(64,32)]-B^l", MgNetSpec((1, 2), ((64, 32), (64, 32)), True)),
    ],
)
def test_every_printed_form_parses_and_prints_back(text: str, spec: MgNetSpec) -> None:
    parsed = parse(text)
    assert parsed == spec
    assert str(parsed) == text.strip()
    assert parse(parsed.canonical) == spec
    assert str(MgNetSpec(spec.nu, spec.channels, spec.share_B)) == parsed.canonical


counts = st.integers(1, 2048)
specs = st.integers(1, 6).flatmap(
    lambda n: st.builds(
        MgNetSpec,
        st.tuples(*[st.integers(1, 32)] * n),
        st.one_of(
            st.tuples(*[st.tuples(counts, counts)] * n),
            st.tuples(*[counts.map(lambda c: (c, c))] * n),
            counts.map(lambda c: ((c, c),) * n),
        ),
        st.booleans(),
    )
)


@given(specs)
def test_printing_and_parsing_are_inverse(spec: MgNetSpec) -> None:
    assert parse(str(spec)) == spec
    assert parse(str(spec)).canonical == spec.canonical


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("ResNet18", 0, "the family MgNet, found 'R'"),
        ("", 0, "found the end"),
        ("MgNet[2,2,x,2]-[256]-B^l", 10, "smoothing steps >= 1, found 'x'"),
        ("MgNet[2,0]-[256]-B^l", 8, "smoothing steps >= 1, found '0'"),
        ("MgNet[2,2-[256]-B^l", 9, "',' or ']', found '-'"),
        ("MgNet[2,2][256]-B^l", 10, "'-' and the channels"),
        ("MgNet[2,2]-[1,2,3]-B^l", 11, "2 channel entries"),
        ("MgNet[2,2]-[(1,2]-B^l", 16, "')', found ']'"),
        ("MgNet[2,2]-[(1)]-B^l", 14, "the channels of f"),
        ("MgNet[2,2]-16", 13, "found the end"),
        ("MgNet[2,2]-16-C^l", 14, "B^l or B^{l,i}, found 'C'"),
        ("MgNet[2,2]-16-B^k", 16, "found 'k'"),
        (r"MgNet[2,2]-16-B^\ellipse", 16, r"found '\\'"),
        ("MgNet[2,2]-16-B^{l,j}", 19, "'i', found 'j'"),
        ("MgNet[2,2]-16-B^{l", 18, "'}', found the end"),
        ("MgNet[2,2]-16-B^l!", 17, "the end, found '!'"),
    ],
)
def test_a_malformed_name_is_pointed_at(text: str, place: int, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    message = str(caught.value).splitlines()
    assert words in message[0]
    assert message[1] == f"  {text}"
    assert message[2] == " " * (2 + place) + "^"


@given(st.text("MgNet[]()-,^{}Blℓi0123456789 ", max_size=30))
def test_any_text_parses_or_is_a_spec_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert parse(parse(text).canonical) == parse(text)


@pytest.mark.parametrize(
    ("nu", "channels"),
    [((), ()), ((2, 0), ((4, 4),) * 2), ((True,), ((4, 4),)), ((2,), ((4, 4),) * 2), ((2,), (4,))],
)
def test_a_spec_cannot_be_malformed(nu: tuple, channels: tuple) -> None:
    with pytest.raises(SpecError):
        MgNetSpec(nu, channels)


def test_modify_replaces_parts() -> None:
    assert modify(UNIFORM) is UNIFORM
    assert modify(UNIFORM, nu=(1, 3)) == MgNetSpec((1, 3), ((256, 256),) * 2)
    assert modify(UNIFORM, channels=(8,)).channels == ((8, 8),) * 4
    assert modify(UNIFORM, channels=(8, (4, 2), 8, 8)).channels[1] == (4, 2)
    assert not modify(UNIFORM, B="B^{l,i}").share_B
    assert str(modify(parse("MgNet[2,2]-16-B^l"), nu=(1, 1))) == "MgNet[1,1]-[16]-B^l"
    with pytest.raises(SpecError, match="nu has 2 grids and channels has 4"):
        modify(parse("MgNet[1,1,1,1]-[1,2,3,4]-B^l"), nu=(1, 1))
    with pytest.raises(SpecError, match="B\\^l"):
        modify(UNIFORM, B="A^l")
