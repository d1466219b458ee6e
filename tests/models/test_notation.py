"""The notation: what is printed parses and prints back, mistakes are pointed at."""

import contextlib
import re
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnet_jax.models import ModelError, create, parse
from mgnet_jax.models.data_feature import DataFeatureSpec
from mgnet_jax.models.deep_resnet import DeepSpec
from mgnet_jax.models.mgnet import MgNetSpec
from mgnet_jax.models.notation import SpecError
from mgnet_jax.models.registry import FAMILIES
from mgnet_jax.models.resnet import ResNetSpec

UNIFORM = MgNetSpec((2, 2, 2, 2), ((256, 256),) * 4, True)
BASIC = {"nu": (2, 2, 2, 2), "channels": (64, 128, 256, 512)}


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
        ("MgNet[3,4,6,3]-[64,128,256,512]-B^l", MgNetSpec((3, 4, 6, 3), (64, 128, 256, 512))),
        ("MgNet[1,2]-[(64,32),(8,16)]-B^l", MgNetSpec((1, 2), ((64, 32), (8, 16)), True)),
        ("MgNet[1,2]-[(64,32)]-B^l", MgNetSpec((1, 2), ((64, 32), (64, 32)), True)),
        ("A=A^l *, B=B^{l,i} *", DataFeatureSpec(A="K", B="K")),
        ("A=A^l * σ, B=σ∘B^{l,i} *", DataFeatureSpec(A="Ks", B="sK")),
        (r"A = \sigma \circ A^{\ell} *, B = B^{\ell, i} * \sigma", DataFeatureSpec(A="sK", B="Ks")),
        ("A=σ∘A^ℓ * σ, B=σ∘B^ℓ * σ", DataFeatureSpec(A="sKs", B="sKs", share_B=True)),
        ("A=A^l *, B=σ∘B^l * σ, [1,2]-[8]", DataFeatureSpec((1, 2), (8, 8), True, "K", "sKs")),
        ("DataFeature(K,sKs)", DataFeatureSpec()),
        ("DataFeature(K,sKs)[1,2]-[8]", DataFeatureSpec((1, 2), (8, 8))),
        ("VGG 19", FAMILIES[5]()),
        ("WRN-28-10-dropout0.00001", DeepSpec(28, 10, True, True, 0.00001)),
        ("DFI(σKσ, Kσ)", DataFeatureSpec(A="sKs", B="Ks")),
        (
            "DataFeature(Ks,sK)[1,2]-[(2,3),4]-B^l",
            DataFeatureSpec((1, 2), ((2, 3), (4, 4)), True, "Ks", "sK"),
        ),
        ("ResNet18", ResNetSpec(**BASIC)),
        ("ResNet18-A^{l,i}-B^{l,i}", ResNetSpec(**BASIC)),
        ("ResNet18-A^l-B^{l,i}", ResNetSpec(**BASIC, share_A=True)),
        (r"pre-act ResNet18-A^\ell-B^{\ell,i}", ResNetSpec(**BASIC, pre_act=True, share_A=True)),
        ("preact-ResNet18", ResNetSpec(**BASIC, pre_act=True)),
        (
            "ResNet34-A^l-B^l",
            ResNetSpec((3, 4, 6, 3), BASIC["channels"], share_A=True, share_B=True),
        ),
        (
            "pre-act ResNet18-A^{l,i}-B^l @table3",
            ResNetSpec(**BASIC, pre_act=True, share_B=True, reading="table3"),
        ),
        ("pre-act ResNet[1,2]-[4,8]-A^l-B^l", ResNetSpec((1, 2), (4, 8), True, True, True)),
        ("pre-act ResNet1001", DeepSpec(1001, pre_act=True)),
        ("preact-ResNet200", DeepSpec(200, pre_act=True)),
        ("ResNet50", DeepSpec(50)),
        ("WideResNet28 * 10", DeepSpec(28, 10, True, True)),
        ("WideResNet28 * 2", DeepSpec(28, 10, True, True)),
        ("WRN-28-2", DeepSpec(28, 2, True, True)),
        ("WRN-40-2-dropout0.3", DeepSpec(40, 2, True, True, 0.3)),
        ("WideResNet50 * 2", DeepSpec(50, 2)),
        ("AlexNet", FAMILIES[4]()),
        ("AlexNet@torchvision", FAMILIES[4]("torchvision")),
        ("VGG19", FAMILIES[5]()),
    ],
)
def test_every_printed_form_parses_and_prints_back(text: str, spec: Any) -> None:
    parsed = parse(text)
    assert parsed == spec
    assert hash(parsed) == hash(spec)
    assert str(parsed) == text.strip()
    assert parse(parsed.canonical) == spec
    assert str(spec) == parsed.canonical


def test_a_misprint_of_the_paper_is_noted_and_has_its_true_name() -> None:
    for depth in (28, 40):
        assert f"WRN-{depth}-2 is" in parse(f"WideResNet{depth} * 2").note
        assert not parse(f"WRN-{depth}-2").note
    assert not parse("WideResNet28 * 10").note


counts = st.integers(1, 2048)
grids = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.tuples(*[st.integers(1, 32)] * n),
        st.one_of(
            st.tuples(*[st.tuples(counts, counts)] * n),
            st.tuples(*[counts.map(lambda c: (c, c))] * n),
            counts.map(lambda c: ((c, c),) * n),
        ),
    )
)
forms = st.sampled_from(["K", "Ks", "sK", "sKs"])
specs = st.one_of(
    st.builds(lambda g, b: MgNetSpec(*g, b), grids, st.booleans()),
    st.builds(lambda g, b, A, B: DataFeatureSpec(*g, b, A, B), grids, st.booleans(), forms, forms),
    st.builds(
        lambda g, p, a, b: ResNetSpec(g[0], [c for c, _ in g[1]], p, a, bool(b), b or "text"),
        grids,
        st.booleans(),
        st.booleans(),
        st.sampled_from(["", "text", "table3"]),
    ),
    st.builds(lambda n, k: DeepSpec(6 * n + 4, k, True, True), st.integers(1, 9), counts),
    st.builds(lambda n: DeepSpec(9 * n + 2, pre_act=True), st.integers(4, 200)),
)


@given(specs)
def test_printing_and_parsing_are_inverse(spec: Any) -> None:
    assert parse(str(spec)) == spec
    assert parse(str(spec)).canonical == spec.canonical


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("LeNet", 0, "the name of a network, found 'L'"),
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
        ("A=A^{l,i} *, B=B^l *", 2, "A^l: one linear system"),
        ("A=σA^l *, B=B^l *", 3, "'∘'"),
        ("A=A^l, B=B^l *", 5, "'*', found ','"),
        ("DataFeature(K,Q)", 14, "one of K, Ks, sK, sKs"),
        ("DataFeature(K,K)[2]-[8]-A^l", 24, "B^l or B^{l,i}, found 'A'"),
        ("ResNet18-B^l", 9, "A^l or A^{l,i}, found 'B'"),
        ("ResNet18-A^l-B^{l,i}@table3", 20, "the end: @table3 is a reading of networks with B^l"),
        ("ResNet[2]-[(4,8)]-A^l-B^l", 11, "channels >= 1, found '('"),
        ("ResNet50-A^l-B^l", 8, "the end: A and B are shared in"),
        ("ResNet19", 6, "another depth: a ResNet has 18, 34, 50"),
        ("pre-act ResNet1002", 14, "another depth: a pre-act ResNet has"),
        ("WRN-29-2", 4, "another depth: a WideResNet has 6n+4"),
        ("WRN-28", 6, "the widening factor"),
        ("VGG16", 3, "19, the one VGG"),
        ("resnet18", 0, "in its own upper and lower case, found 'r'"),
        ("WRN-50-2-dropout0.3", 4, "another depth: dropout=0.3 is for wide networks"),
        ("ResNet19-A^l-B^l", 6, "another depth: a ResNet has"),
        ("WRN-28-0", 7, "channel multiples >= 1"),
        ("AlexNet2", 7, "the end, found '2'"),
    ],
)
def test_a_malformed_name_is_pointed_at(text: str, place: int, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    message = str(caught.value).splitlines()
    assert words in message[0]
    assert message[1] == f"  {text}"
    assert message[2] == " " * (2 + place) + "^"
    assert message[3].startswith("Write it as the paper does, for example ")


ALPHABET = "MgNet[]()-,^{}BA=lℓi0123456789 σ*∘@spreactRWide."


@given(
    st.text(ALPHABET, max_size=30)
    | st.sampled_from(
        ["MgNet", "ResNet", "pre-act ResNet", "WRN-", "DataFeature(", "A=A^l *"]
    ).flatmap(lambda start: st.text(ALPHABET, max_size=20).map(lambda rest: start + rest))
)
def test_any_text_parses_or_is_a_spec_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert parse(parse(text).canonical) == parse(text)


@pytest.mark.parametrize(
    ("nu", "channels"),
    [
        ((), ()),
        ((2, 0), ((4, 4),) * 2),
        ((True,), ((4, 4),)),
        ((2,), ((4, 4),) * 2),
        ((2,), ((4, 4, 4),)),
        ("22", (4, 4)),
        (2, (4,)),
        ((2.0,), (4,)),
        ((2,), ("4",)),
        ((1,), 4),
    ],
)
@pytest.mark.parametrize("family", [MgNetSpec, DataFeatureSpec, ResNetSpec])
def test_a_spec_cannot_be_malformed(family: Any, nu: Any, channels: Any) -> None:
    with pytest.raises(SpecError):
        family(nu, channels)


@pytest.mark.parametrize("family", [MgNetSpec, DataFeatureSpec, ResNetSpec])
def test_lists_and_numpy_numbers_make_the_same_spec(family: Any) -> None:
    channels = [4, 8] if family is ResNetSpec else [[4, 4], (8, 8)]
    spec = family([np.int64(2), 1], channels)
    same = family((2, 1), (4, 8))
    assert spec == same
    assert hash(spec) == hash(same)
    assert type(spec.nu[0]) is int


def test_other_wrong_fields_are_named() -> None:
    for make, words in (
        (lambda: DataFeatureSpec(A="KK"), "A='KK' is not one of K, Ks, sK, sKs"),
        (lambda: DeepSpec(28, 2, True, True, 1.5), "dropout=1.5"),
        (lambda: DeepSpec(28, 0, True, True), "k must be whole numbers >= 1"),
        (lambda: DeepSpec(28, 2, False, True), "wide=True needs pre_act=True"),
        (lambda: DeepSpec(50, 2, True), "k=2 is for wide networks and for bottlenecks without"),
        (lambda: DeepSpec(50, dropout=0.3), "dropout=0.3 is for wide networks"),
        (lambda: ResNetSpec((2,), (8,), reading="x"), "reading='x' is not one of text, table3"),
        (lambda: ResNetSpec((2,), (8,), reading="table3"), "share_B=True"),
        (lambda: FAMILIES[4]("foo"), "variant='foo'"),
        (lambda: parse(3), "must be text, not 3"),
        (lambda: create(None, 10), "must be text, not None"),
        (lambda: create("VGG19", 10, dtype=object()), "dtype=<object"),
        (lambda: create(parse("ResNet18"), 10, form="direct"), "its state is r"),
        (
            lambda: create("DFI(Ks,K)", 10, form="dual"),
            "form='dual' is not there for DFI(Ks,K): its A is not linear",
        ),
        (lambda: create("VGG19", 10, form="direct"), "leave form='auto'"),
    ):
        with pytest.raises(ModelError, match=re.escape(words)):
            make()


def test_the_caret_stands_under_its_place_in_any_text() -> None:
    with pytest.raises(SpecError) as caught:
        parse("MgNet[2]\n\t-[8]-C^l")
    _, name, caret, _ = str(caught.value).splitlines()
    assert name[caret.index("^")] == "C"


def test_a_copy_with_a_form_that_is_not_there_is_named_when_it_runs() -> None:
    model = create("DataFeature(sKs,sKs)[1]-[2]-B^l", 3).clone(form="dual")
    with pytest.raises(ModelError, match="its A is not linear"):
        model.init(jax.random.key(0), np.zeros((1, 4, 4, 1), np.float32))
